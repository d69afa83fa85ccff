"""The parent of a step: a process of its own between a build and what it runs. See `step` for the whole.

It has one thread while it clones, as `runtime.process` asks, and a mount namespace of its own, where a tmpfs holds the
files that the step gets by binds and no disk may see. It stays in the machine's network namespace; who goes into others
is a child that ends at once (`_Connector`), since a normal user's process could not come back. While the step runs it
only waits, and carries what goes to the machine's loopback (`relay`).

Imports only what is cheap: a build waits for it.
"""

import _signal
import _socket
import array
import errno
import os
import select
import sys

from sampan import failure
from sampan.build import relay
from sampan.build.mirror import Lost, Mirrors
from sampan.document import parse, render
from sampan.errors import Internal, NotFound, SampanError
from sampan.kernel import capability, mount, seccomp, syscalls
from sampan.network import etc
from sampan.network.endpoint import Endpoint
from sampan.network.ipam import Network
from sampan.oci.runtime import IdMapping, Mount, Process, Spec
from sampan.runtime import idmap, process, rootfs, standard, target, user
from sampan.settings.configuration import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from sampan.document import Document
    from sampan.kernel.fuse import Owners
    from sampan.runtime.process import Created

BRIDGE, HOST = "bridge", "host"
_NOBODY = 0xFFFFFFFF  # (uid_t)-1: nobody's, as an idmapped mount shows an id that is not in the map
_REQUEST_BYTES = 1 << 28
_MESSAGE_BYTES = 1 << 18
_NAMESPACES = ("user", "mount", "pid", "ipc", "uts", "cgroup")
# Docker's: a server that is not root may take port 80.
_SYSCTL = {"net.ipv4.ip_unprivileged_port_start": "0"}


def main() -> "NoReturn":
    """Be the process that `step` executed: its words are the user's id and the caller's pid."""
    status = 1
    try:
        capability.set_parent_death_signal()
        if os.getppid() != int(sys.argv[3]):
            os._exit(1)  # it died before it could be noticed
        # The caller decides what Ctrl-C means.
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
        _signal.signal(_signal.SIGQUIT, _signal.SIG_IGN)
        channel, output, memfd = (os.dup(number) for number in range(3))
        null = os.open("/dev/null", os.O_RDWR)
        for number in range(3):
            os.dup2(null, number, inheritable=True)
        settings = Settings(dict(os.environ), int(sys.argv[2]))  # noqa: TID251 - this is the process's start
        _serve(_socket.socket(fileno=channel), output, memfd, settings)
        status = 0
    finally:
        os._exit(status)


def _serve(channel: _socket.socket, output: int, memfd: int, settings: Settings) -> None:
    """Run the step and tell what came of it."""
    try:
        if not channel.recv(1):
            return  # there is nothing to run
        request = parse(os.pread(memfd, _REQUEST_BYTES, 0).decode())
        os.close(memfd)
        runner = _Runner(request, settings, channel)
        created = runner.start(output)
        os.close(output)
        _tell(channel, {"status": runner.wait(created)})
    except Lost:
        _tell(channel, {"is_lost": True})
    except Exception as error:  # noqa: BLE001 - the process's boundary
        _tell(channel, {"chain": failure.describe(error)})


def _tell(channel: _socket.socket, message: "Document", *fds: int) -> None:
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    channel.sendmsg([render(message).encode()], rights)


class _Runner:
    """One step, from its request to its status."""

    def __init__(self, request: "Document", settings: Settings, channel: _socket.socket) -> None:
        self._request = request
        self._settings = settings
        self._channel = channel
        self._is_rootless = settings.uid != 0
        self._memory = f"{request['directory']}/memory"
        self._features = idmap.Features(**request["features"])
        self._network = request["network"]
        self._listeners: list[_socket.socket] = []
        self._lowers = tuple(request["lowers"])
        self._mirrors: Mirrors | None = None
        self._uid_mappings: tuple[IdMapping, ...] = ()
        self._gid_mappings: tuple[IdMapping, ...] = ()
        self._userns_fd = -1

    def start(self, output: int) -> "Created":
        """Make the container and let it go."""
        self._enter_memory()
        self._mirror()
        self._choose_network()
        root_fd = self._open_root_to_read()
        try:
            who = user.resolve(root_fd, self._request["user"])
            self._uid_mappings = self._mappings("uid_map", who.uid)
            self._gid_mappings = self._mappings("gid_map", who.gid)
            spec = self._spec(user.within(who, self._uid_mappings))
            stubs = _stubs(root_fd, [entry.destination for entry in spec.mounts], self._request["range"])
        finally:
            os.close(root_fd)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        created = process.create(
            spec,
            root=self._open_root,
            stdio=process.Stdio(null, output, output),
            seccomp_program=self._filter(),
            meanwhile=self._connect,
        )
        _tell(self._channel, stubs, created.pidfd)
        created.start()
        return created

    def wait(self, created: "Created") -> int:
        """Return the step's status as a shell has it; end it where nobody waits for it any more."""
        relay.serve(self._listeners)
        poll = select.poll()
        poll.register(created.pidfd, select.POLLIN)
        poll.register(self._channel.fileno(), 0)  # its end is told all the same
        for fd, _ in poll.poll():
            if fd != created.pidfd:
                created.abort()
                raise Internal("the build has gone")
        _, status = os.waitpid(created.pid, 0)
        if self._mirrors is not None:
            self._mirrors.finish()
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code

    def _filter(self) -> bytes:
        """Return the seccomp filter: with a single id, changes of owner are pretended."""
        is_single = self._is_rootless and sum(mapping.size for mapping in self._uid_mappings) == 1
        cache = f"{self._settings.root}/cache/seccomp"
        return seccomp.program(cache, standard.CAPABILITIES, pretends_owners=is_single)

    def _enter_memory(self) -> None:
        """Have a mount namespace of our own, with a tmpfs in it."""
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
        os.mkdir(self._memory, 0o700)
        syscalls.mount("tmpfs", self._memory, "tmpfs", 0, "mode=0755")

    def _mirror(self) -> None:
        """Show the layers that are to be traced through mirrors, where the machine has FUSE."""
        lowers = self._request["lowers"]
        sources = {position: lowers[position] for position in self._request["traced"]}
        if not sources:
            return
        try:
            self._mirrors = Mirrors(self._memory, sources, self._shown_owners(), f"{self._request['directory']}/asked")
        except OSError:
            return  # then it depends on all of its files
        self._lowers = tuple(self._mirrors.places.get(position, path) for position, path in enumerate(lowers))

    def _shown_owners(self) -> "Owners":
        """Return the owners that a mirror shows, since no mount maps the ids of FUSE on every kernel."""
        if not self._request["is_idmapped"]:
            return lambda uid, gid: (uid, gid)
        mappings = idmap.Range(self._request["range"]).mappings()

        def shown(id: int) -> int:
            found = idmap.host_id(mappings, id)
            return _NOBODY if found is None else found

        return lambda uid, gid: (shown(uid), shown(gid))

    def _choose_network(self) -> None:
        """Take the machine's own network where a normal user's containers have no way out, and say so."""
        if not self._is_rootless or self._network["kind"] != BRIDGE or self._has_way_out():
            return
        self._network = {"kind": HOST}
        text = (
            "this step uses the machine's own network: without `pasta` a container has no way out: `apt install passt`"
        )
        _tell(self._channel, {"warning": text})

    def _has_way_out(self) -> bool:
        """Tell whether the holder's network has a default route."""
        from sampan.runtime import holder

        found = holder.find(self._settings)
        if found is None:
            return False
        try:
            with open(f"/proc/{found.pid}/net/route", encoding="ascii") as file:
                return any(line.split()[1:2] == ["00000000"] for line in file)
        finally:
            found.close()

    def _mappings(self, name: str, own: int) -> "tuple[IdMapping, ...]":
        start = self._request["range"]
        return idmap.Range(start).mappings() if start else idmap.inherited(name, own)

    def _open_root_to_read(self) -> int:
        """Return a read-only mount of what the step will see, with the ids that are on disk."""
        request = self._request
        source = rootfs.RootSource((f"{request['directory']}/upper", *self._lowers), is_idmapped=False)
        return rootfs.open_root(source, None, self._features, userxattr=self._is_rootless)

    def _open_root(self, userns_fd: int | None) -> int:
        return self._overlay(self._lowers, self._request["directory"], userns_fd)

    def _overlay(self, lowers: tuple[str, ...], directory: str, userns_fd: int | None) -> int:
        """Return a mount of layers with the upper in `directory`; read-only where that is empty."""
        if not directory and len(lowers) == 1:
            return mount.clone(lowers[0], mount.Options(("ro", "nodev")), userns_fd=userns_fd)
        upper, work = (f"{directory}/upper", f"{directory}/work") if directory else ("", "")
        source = rootfs.RootSource(
            lowers,
            upper,
            work,
            is_idmapped=self._request["is_idmapped"],
            is_volatile=True,
            is_whole=True,
            shown=() if self._mirrors is None else tuple(self._mirrors.places.values()),
        )
        return rootfs.open_root(source, userns_fd, self._features, userxattr=self._is_rootless)

    def _spec(self, who: user.User) -> Spec:
        request = self._request
        is_host = self._network["kind"] == HOST
        shm = request["shm_bytes"] or standard.SHM_BYTES
        mounts = standard.mounts(shm_bytes=shm, is_sys_bound=is_host)
        mounts += self._etc()
        mounts += self._trust()
        mounts += [self._mount(number, asked) for number, asked in enumerate(request["mounts"])]
        given = {word.partition("=")[0] for word in request["env"]}
        defaults = {"PATH": standard.PATH, "HOME": who.home} | request["trusted_env"]
        env = [f"{name}={value}" for name, value in defaults.items() if name not in given]
        return Spec(
            Process(
                tuple(request["args"]),
                env=(*env, *request["env"]),
                cwd=request["cwd"] or "/",
                uid=who.uid,
                gid=who.gid,
                additional_gids=who.gids,
                capabilities=standard.CAPABILITIES,
            ),
            hostname=request["hostname"],
            mounts=tuple(mounts),
            namespaces=dict.fromkeys((*_NAMESPACES, *(() if is_host else ("network",))), ""),
            uid_mappings=self._uid_mappings,
            gid_mappings=self._gid_mappings,
            masked_paths=standard.MASKED_PATHS,
            readonly_paths=standard.READONLY_PATHS,
            sysctl={} if is_host else _SYSCTL,
        )

    def _etc(self) -> list[Mount]:
        endpoint = self._network.get("endpoint", {})
        files = etc.files(
            addresses=[endpoint["address"]] if endpoint else [],
            gateway=endpoint.get("gateway", ""),
            is_host_network=self._network["kind"] == HOST,
            **self._request["etc"],
        )
        directory = self._make("etc")
        for name, content in files.items():
            self._write(f"{directory}/{name}", content, 0o644)
        return [_bind(f"/etc/{name}", f"{directory}/{name}") for name in files]

    def _trust(self) -> list[Mount]:
        """Return the mounts of what the machine trusts; none where there is nothing."""
        told = self._request["trust"]
        if not told["files"] and not told["directories"]:
            return []
        directory = self._make("trust")
        for name, content in told["files"].items():
            self._write(f"{directory}/{name}", bytes.fromhex(content), 0o444)
        for name in told["directories"]:
            self._make(f"trust/{name}")
        named = told["directories"].items()
        below = [self._directory(f"{told['target']}/{name}", source, "ro") for name, source in named]
        return [_bind(told["target"], directory, "ro", "nosuid", "nodev"), *below]

    def _mount(self, number: int, asked: "Document") -> Mount:
        where, access = asked["target"], "ro" if asked.get("read_only") else "rw"
        match asked["kind"]:
            case "Layers":
                return _bind(where, self._layers(number, asked), "rw" if asked["scratch"] else "ro")
            case "Directory":
                return self._directory(where, asked["source"], access)
            case "Cache":
                return _bind(where, asked["source"], access, *(("idmap",) if self._request["is_idmapped"] else ()))
            case "Tmpfs":
                size = (f"size={asked['size_bytes']}",) if asked["size_bytes"] else ()
                return Mount(where, "tmpfs", "tmpfs", ("nosuid", "nodev", "mode=1777", *size))
            case _:
                path = f"{self._make(f'file-{number}')}/content"
                self._write(path, bytes.fromhex(asked["content"]), asked["mode"], asked["uid"], asked["gid"])
                return _bind(where, path, "ro", "nosuid", "nodev")

    def _directory(self, where: str, source: str, access: str) -> Mount:
        """Return the bind of a directory of the machine: root's files are the step's root's where that can be shown."""
        if self._request["is_idmapped"]:
            options = mount.Options(("rbind",))
            try:
                os.close(mount.clone(source, options, userns_fd=self._userns()))
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EPERM):
                    raise
            else:
                return _bind(where, source, access, "idmap")
        return _bind(where, source, access)

    def _userns(self) -> int:
        """Return a user namespace with the maps that the step's will have."""
        if self._userns_fd < 0:
            self._userns_fd = idmap.create_userns(self._uid_mappings, self._gid_mappings)
        return self._userns_fd

    def _layers(self, number: int, asked: "Document") -> str:
        """Mount a chain of layers in our namespace; return a name of what is asked for in it."""
        userns_fd = self._userns() if self._request["is_idmapped"] else None
        fd = self._overlay(tuple(asked["lowers"]), asked["scratch"], userns_fd)
        place = os.open(self._make(f"layers-{number}"), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        mount.attach(fd, place)
        try:
            # SECURITY: an image's links lead to places in the image.
            return f"/proc/self/fd/{target.find(fd, asked['path'])}"
        except FileNotFoundError as error:
            raise NotFound(f"the mount's source `{asked['path']}` does not exist") from error

    def _make(self, name: str) -> str:
        """Make a directory in memory that is the step's root's."""
        path = f"{self._memory}/{name}"
        os.mkdir(path, 0o755)
        self._give(path, 0, 0)
        return path

    def _write(self, path: str, content: bytes, mode: int, uid: int = 0, gid: int = 0) -> None:
        """Write a file in memory that belongs to an id of the step."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            self._give(fd, uid, gid)
            os.fchmod(fd, mode)
        finally:
            os.close(fd)

    def _give(self, what: "str | int", uid: int, gid: int) -> None:
        """Give a file to whom `uid` and `gid` of the step are here; one that is not mapped leaves it as it is."""
        owner, group = idmap.host_id(self._uid_mappings, uid), idmap.host_id(self._gid_mappings, gid)
        os.chown(what, -1 if owner is None else owner, -1 if group is None else group)

    def _connect(self, created: "Created") -> None:
        """Connect the step's network, and listen in there for what goes to the machine's loopback."""
        if self._network["kind"] == HOST:
            return
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        netns_fd = created.namespace_fd("net")
        pid = os.fork()
        if pid == 0:
            _connector(theirs, self._settings, self._network, netns_fd, self._request["ports"])
        theirs.close()
        try:
            # As many as SCM_MAX_FD of net/scm.h.
            data, ancillary, _, _ = ours.recvmsg(_MESSAGE_BYTES, _socket.CMSG_SPACE(253 * 4), _socket.MSG_CMSG_CLOEXEC)
        finally:
            ours.close()
            os.waitpid(pid, 0)
        told = parse(data.decode() or '{"chain": []}')
        if "chain" in told:
            raise failure.rebuild(told["chain"], "the network of a step could not be connected") from None
        for _, _, rights in ancillary:
            numbers = array.array("i")
            numbers.frombytes(rights)
            self._listeners += [_socket.socket(fileno=number) for number in numbers]


def _connector(
    channel: _socket.socket, settings: Settings, network: "Document", netns_fd: int, ports: list[int]
) -> "NoReturn":
    """Do what is done in other network namespaces; never returns."""
    try:
        from sampan.kernel import netlink
        from sampan.network import bridge, firewall

        if settings.uid != 0:
            from sampan.runtime import holder

            found = holder.find(settings)
            if found is None:
                raise SampanError("the holder of this user's namespaces has ended", hints=("try again",))
            found.enter_network()
        listeners: list[_socket.socket] = []
        if network["kind"] == BRIDGE:
            known = Network.parse(network["network"])
            bridge.ensure(known)
            firewall.ensure(known)
            bridge.attach(netns_fd, Endpoint.parse(network["endpoint"]))
            with netlink.Inside(netns_fd):
                listeners = relay.listen(ports)
        else:
            with netlink.socket_in(netns_fd) as socket:
                bridge.up_loopback(socket)
        _tell(channel, {}, *(listener.fileno() for listener in listeners))
    except Exception as error:  # noqa: BLE001 - the process's boundary
        _tell(channel, {"chain": failure.describe(error)})
    finally:
        os._exit(0)


def _bind(where: str, source: str, *words: str) -> Mount:
    return Mount(where, "bind", source, ("rbind", "rprivate", *words))


def _stubs(root_fd: int, destinations: list[str], shift: int) -> "Document":
    """Return what must be made in the root for mounts at `destinations`, and in which directories.

    Some of what is there may be shown with ids moved by `shift`.
    """
    made: dict[str, None] = {}
    touched: dict[str, tuple[int, int, int]] = {}
    for destination in destinations:
        parts = [part for part in os.path.normpath(destination).split("/") if part]
        for number in range(1, len(parts) + 1):
            path = "/".join(parts[:number])
            if path in made or _mode_of(root_fd, path, shift) is not None:
                continue
            made[path] = None
            above = "/".join(parts[: number - 1])
            found = _mode_of(root_fd, above or ".", shift) if above not in made else None
            if found is not None and above:
                touched[above] = found
    return {"made": list(made), "touched": [[path, *found] for path, found in touched.items()]}


def _mode_of(root_fd: int, path: str, shift: int) -> "tuple[int, int, int] | None":
    """Return mode and owner, as the image has them, of what is at `path`; None where nothing is."""
    try:
        fd = target.find(root_fd, path)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    uid, gid = (id - shift if id >= shift else id for id in (status.st_uid, status.st_gid))
    return status.st_mode & 0o7777, uid, gid
