"""The monitor from STARTED on: it watches over a container that runs, records its end, and takes down what was put up.

Theory. All that is known here is one document and some descriptors (`monitor` lists its states), so that `renewal` may
carry both into a fresh interpreter. Nothing of what made the container is imported any more; what takes it down is
imported when it is needed, from the package or, after a renewal, from memory. Hot path.
"""

import _socket
import os
import time

from sampan import journal
from sampan.engine import fault, frame, renewal, state
from sampan.engine.output import OutputLog
from sampan.engine.switchboard import Switchboard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.engine.health import Health
    from sampan.engine.switchboard import Companion

VERSION = 1
# A container that has been quiet for so long is one that stays: now memory is worth more than time.
_QUIET_SECONDS = 1.0
# A restart policy's patience, docker's: a run of so many seconds makes it begin anew.
_DELAY_SECONDS, _MOST_DELAY_SECONDS, _STEADY_SECONDS = 0.1, 60.0, 10.0


class Watch:
    """One running container; `document` has the keys that `monitor.watched` writes."""

    __slots__ = ("_board", "_document", "_fds", "_health", "_log", "_state", "_told_health")

    def __init__(self, document: "Document") -> None:
        """Take over the descriptors that the document names."""
        self._document = document
        self._fds: Document = document["fds"]
        self._state = state.State(**document["state"])
        told = document["log"]
        self._log = None if told is None else OutputLog(f"{document['directory']}/logs", **told)
        listener = _socket.socket(fileno=self._fds["listener"])
        self._board = Switchboard(self._fds["pidfd"], self._log, listener)
        if "board" in document:
            self._board.resume(document["board"])
        elif self._fds["terminal"] >= 0:
            self._board.connect_terminal(self._fds["terminal"], has_stdin=document["has_stdin"])
        else:
            self._board.connect_pipes(self._fds["stdin"], self._fds["stdout"], self._fds["stderr"])
        self._board.is_stdin_once = document["is_stdin_once"]
        self._board.on_termination = document["stop_signal"]
        self._board.after_termination = self._let_go
        self._board.after_hangup = self._be_found
        if document["network"].get("dns"):
            self._board.accompany(_resolver(document["network"]["dns"], document["run"], document["directory"]))
        self._told_health = "" if self._state.health is None else self._state.health["Status"]
        self._health = self._watched_health()
        if self._health is not None:
            self._board.accompany(self._health)

    def begin(self, channel: _socket.socket | None) -> None:
        """Take the launcher as the first client and tell it that the container runs; then go on.

        There is none where the container was started again by its restart policy.
        """
        if self._document["window"]:
            self._board.resize(*self._document["window"])
        if channel is not None:
            self._board.add(channel, is_launcher=True)
            self._board.tell(frame.pack(frame.STARTED))
        self._board.resume_clients(self._document["followers"])
        if self._document["restart"] and not self._document["program"]:
            self._pack()
        # A foreign runtime is told of the end by code that is not in a renewal's list.
        may_renew = self._state.runtime is None
        if not self._board.run(_QUIET_SECONDS, None if may_renew else _rest):
            if not self._document["program"]:
                self._pack()
            self._go_on(renewal.WATCH, self._carried(), self._descriptors())
            # Where that cannot be, we go on as we are.
            self._board.run(_QUIET_SECONDS, _rest)
        self._end()

    def go_on(self) -> None:
        """Go on in a fresh interpreter, to the end."""
        if self._log is not None:
            self._log.hold_back(self._document["held_back"])
        self._board.run(_QUIET_SECONDS, _rest)
        self._end()

    def _pack(self) -> None:
        """Have in memory what another interpreter goes on with."""
        try:
            self._document["program"] = renewal.pack(self._extra())
        except (OSError, ImportError, ValueError, AttributeError):
            self._document["program"] = []  # larger, and no worse

    def _go_on(self, entry: int, document: "Document", descriptors: list[int]) -> None:
        """Go on in another interpreter, if that can be."""
        if not self._document["program"]:
            return
        # SECURITY: a container without a user namespace may open the program of who enters it.
        is_sealed = not self._state.uid_mappings and bool(self._health or self._document["restart"])
        environment = self._document["again"]["environment"] if self._document["restart"] else {}
        renewal.go_on(
            self._document["program"], entry, document, descriptors, environment=environment, is_sealed=is_sealed
        )

    def _carried(self) -> "Document":
        state = {name: getattr(self._state, name) for name in self._state.__slots__}
        board, held_back = self._board.document(), self._log.held_back() if self._log is not None else {}
        return self._document | {"board": board, "held_back": held_back, "state": state}

    def _descriptors(self) -> list[int]:
        return [
            *self._board.descriptors(),
            self._fds["lock"],
            *self._fds["holder"],
            *self._document["network"]["held"],
            *(self._document["network"]["dns"] or {}).get("sockets", ()),
            *self._document["program"][:1],
        ]

    def _end(self) -> None:
        """Go from `ended` to `gone`, or to the next run; see monitor."""
        self._reach(fault.MONITOR_ENDED)
        self._take_networks()
        if self._health is not None:
            self._health.close()
        self._note_end()
        delay = self._delay()
        if delay is not None:
            self._start_again(delay)
        self._record_end()
        self._note_die()
        self._reach(fault.MONITOR_RECORDED)
        self._board.farewell(self._state.exit_code)
        # Late: this is what the years before need not carry.
        from sampan.engine import takedown

        is_clean = takedown.all(self._document, self._reach)
        self._state.clean = is_clean
        if self._document["auto_remove"] and is_clean:
            self._note("destroy")
        try:
            state.write(self._document["directory"], self._state, durable=False)
        except OSError:
            pass  # a full disk: the next command's sweep looks once more, and finds nothing
        # The lock goes before the last output has been taken: nobody's `start` or `rm` waits for a slow reader.
        os.close(self._fds["lock"])
        self._board.flush()

    def _take_networks(self) -> None:
        """Learn which networks `network connect` and `disconnect` left the container on."""
        changed = state.read_network(self._document["directory"], os.getpid(), self._state.boot_id)
        if not changed:
            return
        network = self._document["network"]
        network["endpoints"] = changed["endpoints"]
        network["is_connected"] = True
        if self._document["again"]:
            self._document["again"]["request"]["network"] |= changed
            # With a resolver from the next run on, where it had none.
            aliases = (network["dns"] or {}).get("aliases", {})
            network["dns"] = changed["dns"] and changed["dns"] | {"aliases": aliases}

    def _note_end(self) -> None:
        """Take docker's exit status."""
        _, wait_status = os.waitpid(self._state.pid, 0)
        status = os.waitstatus_to_exitcode(wait_status)
        self._state.exit_code = 128 - status if status < 0 else status
        self._state.oom_killed = _oom_kills(self._document["oom_file"]) > 0
        self._state.finished_at = state.timestamp(time.time_ns())

    def _let_go(self) -> None:
        """Let a paused container go on."""
        if self._state.cgroup is not None and state.is_frozen(self._state.cgroup):
            from sampan.runtime import cgroup

            cgroup.parse(self._state.cgroup).thaw()

    def _be_found(self) -> None:
        """Stand in SAMPAN_RUN again, which somebody has wiped: a command that could not reach us asks for it."""
        document = self._document
        try:
            listener = listen(document["run_directory"])
            name = state.read_name(document["directory"], document["name"])
            state.publish_name(document["run"], name, document["id"])
            if document["network"]["dns"]:
                from sampan.engine import connection

                connection.publish_names(document["network"])
        except OSError:
            return  # the next one asks again
        self._fds["listener"] = listener.fileno()
        self._board.listen(listener)

    def _note_die(self) -> None:
        """Tell the journal of the end, when it stands in the state file."""
        from sampan.engine import connection

        id = self._document["id"]
        told = {"container": id, "driver": "local"}
        seconds = int(time.monotonic() - self._document["began"])
        end = {"execDuration": str(seconds), "exitCode": str(self._state.exit_code)}
        events = [
            *([self._event("oom")] if self._state.oom_killed else []),
            *connection.events("disconnect", id, self._document["network"]),
            *((journal.VOLUME, "unmount", name, told) for name, _, _ in self._document["named_volumes"]),
            self._event("die", **end),
        ]
        journal.note_all(self._document["root"], events)

    def _note(self, action: str, **attributes: str) -> None:
        journal.note_all(self._document["root"], [self._event(action, **attributes)])

    def _event(self, action: str, **attributes: str) -> "journal.Happened":
        document = self._document
        name = state.read_name(document["directory"], document["attributes"]["name"])
        return journal.CONTAINER, action, document["id"], document["attributes"] | {"name": name} | attributes

    def _delay(self) -> float | None:
        """Return the seconds until the next run; None where there is none."""
        if not self._document["restart"] or self._board.is_stop_wanted:
            return None
        policy = self._policy()
        if policy["name"] == "no":
            return None
        if policy["name"] == "on-failure":
            is_over = 0 < policy["maximum"] <= self._state.restarts
            if self._state.exit_code == 0 or is_over:
                return None
        return delay_after(float(self._document["delay"]), time.monotonic() - self._document["began"])

    def _policy(self) -> "Document":
        """Return the restart policy: the last one that `update` left, else the one that it was started with."""
        options = state.read_update(self._document["directory"], os.getpid(), self._state.boot_id)
        if not options:
            return dict(self._document["restart"])
        name, maximum = options["restart"]
        return {"name": name, "maximum": maximum}

    def _start_again(self, delay: float) -> None:
        """Take this run down, wait, and begin the next in another interpreter; return where that is not to be."""
        from sampan.engine import takedown

        self._state.status = state.RESTARTING
        try:
            state.write(self._document["directory"], self._state, durable=False)
        except OSError:
            return  # there is no store to start it from
        self._note_die()
        takedown.run(self._document, self._reach)
        self._reach(fault.MONITOR_RESTARTING)
        followers = self._board.pause(self._state.exit_code, delay)
        if self._board.is_stop_wanted:
            return
        network = self._document["network"]
        document = self._document["again"] | {
            "directory": self._document["directory"],
            "program": self._document["program"],
            "network": network,
            "followers": followers,
            "delay": delay,
            "restarts": self._state.restarts + 1,
            "exit_code": self._state.exit_code,
            "finished_at": self._state.finished_at,
            "fds": self._fds,
        }
        kept = [self._fds["lock"], self._fds["listener"], *self._fds["holder"], *network["held"]]
        self._go_on(renewal.START_AGAIN, document, [*kept, *(client["fd"] for client in followers)])
        self._state.error = "it could not be started again"

    def _record_end(self) -> None:
        """Let the ports go, and write the exit record."""
        if self._document["network"]["held"] or self._document["network"]["forwarder"]:
            from sampan.engine import takedown

            takedown.release(self._document)
        self._state.status = state.EXITED
        if self._board.is_stopped_by_hand:
            state.mark_stopped(self._document["directory"])
        try:
            # The record of a container that is about to vanish need not outlive a power cut.
            state.write(self._document["directory"], self._state, durable=not self._document["auto_remove"])
        except OSError:
            pass  # the store was deleted, or its disk is broken: what stands on the machine must go all the same

    def _reach(self, point: str) -> None:
        fault.reach(point, self._document["fault"])

    def _extra(self) -> tuple[str, ...]:
        """Return the modules that this container's monitor needs and others do not."""
        resolver = renewal.RESOLVER if self._document["network"]["dns"] else ()
        again = renewal.START if self._document["restart"] else ()
        return (*resolver, *again, *(renewal.PROBE if self._health is not None else ()))

    def _watched_health(self) -> "Health | None":
        """Return what probes the container; nothing is imported where nothing does."""
        plan, told = self._document["health"], self._state.health
        if plan is None or told is None:
            return None
        from sampan.engine import health

        request = {name: getattr(self._state, name) for name in ("process", "uid_mappings", "gid_mappings", "cgroup")}
        request["seccomp_program"] = self._document["seccomp_program"]
        return health.Health(plan, told, request, self._fds["pidfd"], self._tell)

    def _tell(self) -> None:
        """Write the state of a container that runs."""
        try:
            state.write(self._document["directory"], self._state, durable=False)
        except OSError:
            return  # a full disk: the next result may find room
        state.reserve(self._document["directory"])
        health = "" if self._state.health is None else self._state.health["Status"]
        if health != self._told_health:
            self._told_health = health
            self._note(f"health_status: {health}")


def delay_after(last_seconds: float, ran_seconds: float) -> float:
    """Return how long a restart policy waits, docker's: 100 ms, doubled up to a minute, anew after a run of 10 s."""
    if not last_seconds or ran_seconds >= _STEADY_SECONDS:
        return _DELAY_SECONDS
    return min(2 * last_seconds, _MOST_DELAY_SECONDS)


def listen(directory: str) -> _socket.socket:
    """Open the socket that commands attach to; only its owner may pass through the directory."""
    os.makedirs(directory, 0o700, exist_ok=True)
    path = f"{directory}/attach.sock"
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    with frame.Address(path) as address:
        listener.bind(address)
    listener.listen(64)
    listener.setblocking(False)
    return listener


def _resolver(dns: "Document", run: str, directory: str) -> "Companion":
    from sampan.network import dns as resolver
    from sampan.network import record

    udp, tcp = (_socket.socket(fileno=fd) for fd in dns["sockets"])
    networks = [(record.directory(run, id), name) for id, name in dns["networks"]]
    names = resolver.Names(networks, run, f"{directory}/network.json", dns.get("aliases"))
    return resolver.Resolver(udp, tcp, names, tuple(dns["servers"]))


def _rest() -> None:
    """Nothing moves, and may not for days: be small."""
    from sampan.kernel import memory

    memory.drop_code()


def _oom_kills(path: str) -> int:
    """Return the kernel's count of OOM kills in the container's cgroup; 0 where nobody counts."""
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return 0
    return max((int(line.split()[1]) for line in lines if line.startswith(b"oom_kill ")), default=0)
