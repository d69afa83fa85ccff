"""The monitor: one process beside each running container, from before it runs until nothing of it is left. Hot path.

Theory of operation. A monitor is a container's parent process: it holds the pidfd and our ends of the stdio or
terminal, writes the log, serves the commands that attach, holds the published ports, and in the end takes down what it
has put up. It has left the caller's session, directory, descriptors and cgroup, has no database connection, and has
imported all it will ever need, so that an upgrade of the package does not touch it. All it tells is in files (`state`);
commands fold those into the database (`sweep`).

    state      entered when                visible to others               kill -9 of the monitor here
    --------   -------------------------   -----------------------------   ----------------------------------------
    waiting    forked or executed          nothing                         the command says so; nothing to undo
    preparing  REQUEST and lock received   lock held                       sweep: not started, as if `create` only
    created    its process awaits execve   cgroup, namespaces, veth, port  it dies with us; sweep removes the rest
    running    execve succeeded            state.json running, socket      it dies with us; sweep records 137
    ended      pidfd readable, output read ports free again                sweep records 137
    recorded   exit record written         state.json exited, EXIT sent    sweep removes what is left
    gone       all taken down              lock free, `clean` true         -

The order in `ended` is part of the promise: ports are let go before the record, so that a command which saw the exit
may publish them again; the record is written (temporary file, sync, rename) before anybody is told. A container whose
command asked for removal (`--rm`) leaves a tombstone: its directory is emptied here, state.json says `exited`, and the
row goes with the next command's sweep, which every command that needs the name, or shows it, does first. So no database
is opened here.

INVARIANT: a container does not outlive its monitor: the parent-death signal is the last thing its first process sets.
"""

import _socket
import gc
import os
import time

from sampan import journal
from sampan.document import render
from sampan.engine import assembly, config, fault, frame, rootless, sealing, state, takedown
from sampan.engine import connection as links
from sampan.engine.stdio import Pipes
from sampan.engine.watch import Watch, listen
from sampan.errors import Internal, SampanError, Unsupported
from sampan.identity import stat_of
from sampan.kernel import seccomp
from sampan.network import etc
from sampan.oci.runtime import Process, Spec
from sampan.runtime import cgroup, process
from sampan.settings import configuration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.engine import linking
    from sampan.engine.partner import Partners
    from sampan.engine.sealing import Receive
    from sampan.runtime import foreign
    from sampan.settings.configuration import Settings

# Where the kernel lets us: the OOM killer takes the container before the one who can tell of it.
_OOM_SCORE = -900


def run(channel: _socket.socket, settings: "Settings", receive: "Receive") -> None:
    """Be a monitor: get ready, wait for the request, live as long as the container. Returns at the very end."""
    rootless.keep(settings)
    parent = cgroup.open_parent(settings)
    parent.enter_monitor()
    own_score = _lower_oom_score()
    found = assembly.features(settings)
    channel.sendall(frame.pack(frame.READY, render({name: getattr(found, name) for name in found.__slots__}).encode()))
    gc.freeze()
    received = receive()
    if received is None:
        return
    request, lock_fd = received
    own_score = request.setdefault("oom_score_adj", own_score)
    if not request["has_userns"]:
        sealing.seal(sealing.MONITOR, channel, settings, request, lock_fd)
    watch = _Start(request, settings, lock_fd, parent, own_score).run(channel)
    if watch is not None:
        watch.begin(channel)


def again(document: "Document") -> None:
    """Start a container once more that has ended, as its restart policy wants; `document` is what `watch` left."""
    request, fds = document["request"], document["fds"]
    # Limits that were changed since hold for the next run too.
    request["options"] |= state.read_update(document["directory"], os.getpid(), request["boot_id"])
    settings = configuration.Settings(document["environment"], document["uid"])
    parent = cgroup.open_parent(settings)
    parent.enter_monitor()
    start = _Start(request, settings, fds["lock"], parent, request["oom_score_adj"], before=document)
    watch = start.run(None)
    if watch is not None:
        watch.begin(None)


class _Start:
    """One start; see the module for its states."""

    __slots__ = (
        "_before",
        "_cgroup",
        "_connector",
        "_created",
        "_listener",
        "_lock_fd",
        "_own_score",
        "_parent",
        "_partners",
        "_pipes",
        "_request",
        "_settings",
        "_spec",
        "_state",
    )

    def __init__(
        self,
        request: "Document",
        settings: "Settings",
        lock_fd: int,
        parent: "cgroup.Parent",
        own_score: int | None,
        *,
        before: "Document | None" = None,
    ) -> None:
        # What the run before left, where a restart policy starts it again.
        self._before = before
        if before is not None:
            _take_new_name(request, before)
        self._request = request
        self._settings = settings
        self._lock_fd = lock_fd
        self._parent = parent
        self._own_score = own_score
        # Replaced by the first step; a failure before it needs none.
        self._spec = Spec(Process(()))
        self._state = state.State(clean=False, monitor_pid=os.getpid(), boot_id=request["boot_id"])
        if before is not None:
            self._state.status = state.RESTARTING
            for name in ("restarts", "exit_code", "finished_at"):
                setattr(self._state, name, before[name])
        told = None if before is None else before["network"]
        self._connector = links.Connector(
            request["network"], root=settings.root, run=settings.run, is_rootless=settings.uid != 0, told=told
        )
        self._cgroup: cgroup.Cgroup | None = None
        self._created: process.Created | foreign.Created | None = None
        self._listener: _socket.socket | None = None
        self._pipes: Pipes | None = None
        # The containers whose namespaces it joins.
        self._partners: Partners | None = None

    def run(self, channel: _socket.socket | None) -> Watch | None:
        """Start the container; None where that failed, all is undone and the command, if any, has been told."""
        try:
            self._prepare()
            self._reach(fault.MONITOR_PREPARED)
            self._create()
            watched = self._watched()
        except Exception as error:  # noqa: BLE001 - the process's boundary: it crosses the channel, whatever it is
            self._fail(channel, error)
            return None
        self._reach(fault.MONITOR_STARTED)
        # Not synced: a power cut ends the container too, and then the boot id tells.
        state.write(self._request["directory"], self._state, durable=False)
        state.reserve(self._request["directory"])
        state.forget_stopped(self._request["directory"])
        state.publish_name(self._settings.run, self._request["name"], self._request["id"])
        self._note(watched["attributes"])
        self._reach(fault.MONITOR_RUNNING)
        return Watch(watched)

    def _note(self, attributes: "Document") -> None:
        """Tell the journal of the start, and of what the container has now."""
        request, id = self._request, self._request["id"]
        events: list[journal.Happened] = []
        for name, destination, is_writable in request["named_volumes"]:
            told = {"container": id, "destination": destination, "driver": "local", "propagation": ""}
            events.append((journal.VOLUME, "mount", name, told | {"read/write": str(is_writable).lower()}))
        events += links.events("connect", id, self._state.network)
        journal.note_all(self._settings.root, [*events, (journal.CONTAINER, "start", id, attributes)])

    def _prepare(self) -> None:
        """Put up all that the container's first process needs to find."""
        request, directory = self._request, self._request["directory"]
        state.write(directory, self._state, durable=False)
        self._reach(fault.MONITOR_REQUESTED)
        if request["joined"]:
            self._join(request)
        self._spec = assembly.spec(request, self._partners)
        if self._own_score is not None and self._spec.process.oom_score_adj is None:
            # The container keeps what it would have had.
            self._spec.process.oom_score_adj = self._own_score
        links = self._links() if request["links"] else []
        if assembly.etc_directory(request) == directory:
            files = etc.files(**assembly.etc(request), links=[(link.address, link.names) for link in links])
            etc.write(directory, files, assembly.owner(request))
        self._listener = self._heard_before() or listen(request["run_directory"])
        if request["runtime"]:
            self._state.runtime = {"path": request["runtime"], "state_directory": f"{self._settings.run}/runtime"}
        else:
            has_userns = "user" in self._spec.namespaces
            self._cgroup = self._parent.create(
                request["id"],
                self._spec.resources,
                devices=not has_userns,
                parent=request["options"].get("cgroup_parent", ""),
            )
            self._state.cgroup = self._cgroup.document()
            if request["is_pid_shared"] and self._state.cgroup.get("directories") == {}:
                raise Unsupported(
                    "without a control group what it starts in a pid namespace that is not its own would outlive it",
                    hints=("a normal user has control groups with cgroup v2", "leave `--pid` out, or run as root"),
                )
        state.write(directory, self._state, durable=False)
        self._connector.prepare()

    def _join(self, request: "Document") -> None:
        """Find the containers whose namespaces it joins; their ids are its own, and may be others than before."""
        from sampan.engine import partner

        if request["runtime"]:
            raise Unsupported(
                f"`{request['runtime']}` joins no container's namespaces here", hints=("leave `--runtime` out",)
            )
        self._partners = partner.open_all(request, self._settings.root, is_patient=self._before is not None)
        mappings = self._partners.uid_mappings
        if mappings and request["range"]:
            request["range"] = mappings[0]["hostID"]
            state.write_range(request["directory"], request["range"])

    def _links(self) -> "list[linking.Link]":
        """Find the containers that are linked; the variables that tell of them give way to the container's own."""
        from sampan.engine import linking

        found = linking.find(self._request, self._settings.root)
        process = self._spec.process
        process.env = tuple(config.environment_of([word for link in found for word in link.variables], process.env))
        return found

    def _heard_before(self) -> _socket.socket | None:
        """Return the socket at which commands wait already, where it is a restart."""
        return None if self._before is None else _socket.socket(fileno=self._before["fds"]["listener"])

    def _create(self) -> None:
        """Make the container, connect its network, and let it go."""
        has_terminal = self._spec.process.terminal
        with Pipes(has_terminal=has_terminal, has_stdin=self._request["interactive"]) as self._pipes:
            make = self._create_foreign if self._request["runtime"] else self._create_own
            self._created = make(self._pipes.theirs())
            self._reach(fault.MONITOR_NETWORKED)
            self._created.start()
        if self._partners is not None:
            self._partners.joined.close()

    def _connect(self, created: "process.Created | foreign.Created") -> None:
        """Connect the network, while the container's first process mounts (a foreign runtime's has done so)."""
        self._reach(fault.MONITOR_CREATED)
        self._connector.connect(created)

    def _create_own(self, stdio: process.Stdio) -> process.Created:
        return process.create(
            self._spec,
            root=self._open_root,
            stdio=stdio,
            cgroup=self._cgroup,
            seccomp_program=self._seccomp_program(),
            meanwhile=self._connect,
            joined=None if self._partners is None else self._partners.joined,
        )

    def _create_foreign(self, stdio: process.Stdio) -> "foreign.Created":
        """Make the container with runc, crun or another: it makes the cgroup and compiles the filter itself."""
        from sampan.runtime import foreign

        choice, profile = self._request["seccomp"], self._request["seccomp_profile"]
        capabilities = self._spec.process.capabilities
        if choice != "unconfined":
            whole = seccomp.default(capabilities) if profile is None else seccomp.resolve(profile, capabilities)
            self._spec.seccomp = whole
        runtime = foreign.Runtime(self._request["runtime"], f"{self._settings.run}/runtime")
        directory = self._request["directory"]
        created = foreign.create(
            runtime, self._request["id"], self._spec, directory=directory, root=self._open_root, stdio=stdio
        )
        # Known from here on, so that a failure undoes it.
        self._created = created
        self._connect(created)
        return created

    def _open_root(self, userns_fd: int | None) -> int:
        return assembly.open_root(self._request["root"], userns_fd)

    def _seccomp_program(self) -> bytes | None:
        """Return the filter that the request asks for, None for none."""
        choice, profile = self._request["seccomp"], self._request["seccomp_profile"]
        if choice == "unconfined":
            return None
        cache = f"{self._settings.root}/cache/seccomp"
        return seccomp.program(cache, self._spec.process.capabilities, profile=profile)

    def _watched(self) -> "Document":
        """Return all that `watch` needs: the facts, and the numbers of the descriptors, which are its own now."""
        created, group, listener, pipes = self._created, self._cgroup, self._listener, self._pipes
        if created is None or listener is None or pipes is None:
            raise Internal("a start is not complete")
        if group is None:
            # A foreign runtime made it; all that is done with containers needs to know it.
            self._state.cgroup = cgroup.of_process(created.pid)
        else:
            group.close()
        network = self._connector.document()
        self._state.status = state.RUNNING
        self._state.pid = created.pid
        self._state.start_time = stat_of(created.pid)[1]
        self._state.started_at = state.timestamp(time.time_ns())
        self._state.process = self._spec.process.document()
        self._state.uid_mappings = [mapping.document() for mapping in self._spec.uid_mappings]
        self._state.gid_mappings = [mapping.document() for mapping in self._spec.gid_mappings]
        self._state.seccomp = self._request["seccomp"]
        self._state.network = network
        plan = self._health_plan()
        self._state.execution = _execution(self._request)
        self._connector.detach()
        stdin, stdout, stderr = pipes.ours()
        request = self._request
        kept = (
            "fault",
            "directory",
            "run_directory",
            "auto_remove",
            "stop_signal",
            "is_stdin_once",
            "window",
            "log",
            "named_volumes",
            "is_pid_shared",
        )
        return {name: request[name] for name in kept} | {
            "root": self._settings.root,
            "uid": self._settings.uid,
            "has_stdin": request["interactive"],
            "state": {name: getattr(self._state, name) for name in self._state.__slots__},
            "network": network,
            "id": request["id"],
            "name": request["name"],
            "attributes": request["config"]["Labels"] | {"image": request["options"]["image"], "name": request["name"]},
            "run": self._settings.run,
            "health": plan,
            "began": time.monotonic(),
            "restart": self._restart(),
            "again": self._again(),
            "program": [] if self._before is None else self._before["program"],
            "followers": [] if self._before is None else self._before["followers"],
            "delay": 0.0 if self._before is None else self._before["delay"],
            "seccomp_program": self._probe_filter() if plan else None,
            "oom_file": _oom_file(self._state.cgroup),
            "fds": {
                "pidfd": created.pidfd,
                "lock": self._lock_fd,
                "listener": listener.detach(),
                "terminal": -1 if created.console_fd is None else created.console_fd,
                "stdin": stdin,
                "stdout": stdout,
                "stderr": stderr,
                "holder": rootless.descriptors() if self._before is None else self._before["fds"]["holder"],
            },
        }

    def _restart(self) -> "Document | None":
        """Return the restart policy, None for `no`."""
        name, maximum = self._request["options"]["restart"]
        return None if name == "no" else {"name": name, "maximum": maximum}

    def _again(self) -> "Document | None":
        """Return what `again` needs of what is known here; None where that will not be."""
        if self._restart() is None:
            return None
        request = self._request | {"oom_score_adj": self._own_score}
        return {"request": request, "environment": sealing.environment(self._settings), "uid": self._settings.uid}

    def _health_plan(self) -> "Document | None":
        """Return what the container's probes are; nothing is imported where there are none."""
        if not self._request["config"].get("Healthcheck"):
            return None
        from sampan.engine import health

        plan = health.plan(self._request["config"])
        if plan is not None:
            self._state.health = {"Status": health.STARTING, "FailingStreak": 0, "Log": []}
        return plan

    def _probe_filter(self) -> str | None:
        """Return the seccomp filter of the probes, which is the container's, as hexadecimal digits."""
        program = self._seccomp_program()
        return None if program is None else program.hex()

    def _fail(self, channel: _socket.socket | None, error: Exception) -> None:
        """Undo a start that failed, record why, and tell the command."""
        if self._created is not None:
            self._created.abort()
        if self._partners is not None:
            self._partners.joined.close()
        status = error.exit_status if isinstance(error, SampanError) else 125
        self._state.exit_code = max(status, 125)
        self._state.error = error.what if isinstance(error, SampanError) else str(error)
        if self._before is not None:
            self._state.status = state.EXITED
        document = self._request | {
            "root": self._settings.root,
            "run": self._settings.run,
            "uid": self._settings.uid,
            "network": self._connector.document(),
            "state": {"cgroup": self._state.cgroup, "runtime": self._state.runtime},
        }
        try:
            self._state.clean = takedown.all(document, self._reach)
            state.write(self._request["directory"], self._state, durable=False)
        finally:
            os.close(self._lock_fd)
            if channel is not None:
                channel.sendall(frame.pack(frame.ERROR, frame.render_error(error)))

    def _reach(self, point: str) -> None:
        fault.reach(point, self._request["fault"])


def _execution(request: "Document") -> "Document":
    """Return what `exec` needs to know of the container beside its process."""
    config = request["config"]
    return {
        "user": config["User"],
        "group_add": request["options"]["group_add"],
        "has_own_home": any(word.startswith("HOME=") for word in config["Env"]),
        "attributes": config["Labels"] | {"image": request["options"]["image"], "name": request["name"]},
        "seccomp_profile": request["seccomp_profile"],
    }


def _lower_oom_score() -> int | None:
    """Lower our OOM score where the kernel lets us; return what it was then, else None."""
    with open("/proc/self/oom_score_adj", "rb") as file:
        own = int(file.read())
    try:
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
            file.write(str(_OOM_SCORE).encode())
    except OSError:
        return None  # EACCES without CAP_SYS_RESOURCE: then we are as likely a victim as anybody
    return own


def _oom_file(group: "Document | None") -> str:
    """Return the file in which the kernel counts OOM kills: `watch` reads it without the code that makes cgroups."""
    if group is None:
        return ""  # what a foreign runtime started has ended already
    if group["cgroup"] == 1:
        return f"{group['directories'].get('memory', '')}/memory.oom_control"
    return f"{group['directory']}/memory.events"


def _take_new_name(request: "Document", before: "Document") -> None:
    """Have the request say what the container is called by now: somebody may have renamed it while it ran."""
    old, new = request["name"], state.read_name(request["directory"], request["name"])
    request["name"] = new
    for endpoint in before["network"]["endpoints"]:
        endpoint["names"] = [new if name == old else name for name in endpoint["names"]]
