"""A step: one process on top of a chain of layers, run to its end; what it changed is a new layer. RUN is made of it.

Theory of operation. The process gets a whole container: namespaces of its own, docker's default capabilities and
seccomp filter, an address on the bridge, an id range. Its root is an overlay of the layers' snapshots with an empty
upper in the build's scratch directory; when nothing runs any more, `change` makes the layer of that upper.

    this process                                    the step's parent (`step_process`)          the step
    ---------------------------------------------   -----------------------------------------   ------------------------
    id range and address leased; layers unpacked
    executes it, with a request in a memfd      ->  a mount namespace of its own, in which a
                                                    tmpfs holds what must not reach a disk
                                                    clone3, maps, mounts, network           ->  waits, then execve
    STARTED, with the step's pidfd              <-
    copies its output
    EXIT or ERROR                               <-  waits for it
    reads the upper, gives back what it leased

So a build may have threads, and its memory is not copied. Whoever dies takes along what it has made: the step's
parent dies with this process and the step with its parent; its network namespace, mounts and memory go with it. What a
killed build leaves in the database and in `cache/scratch` is removed by the next (`sweep`, `scratch`).

What the machine trusts (`trust`) is in the step, and nowhere else.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Sequence

from sampan.build import change, trace, trust, unpacking
from sampan.build.step_parent import Parent
from sampan.database import lease as leases
from sampan.document import parse
from sampan.errors import Internal, InvalidArgument, SampanError
from sampan.events import Event
from sampan.frozen import frozen
from sampan.network import ipam
from sampan.network.endpoint import Endpoint
from sampan.runtime import idmap, idrange
from sampan.storage import overlay, trash
from sampan.storage.space import saying_how_to_free_space

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol, Self

    from sampan.build.cache import Result
    from sampan.database.connection import Database
    from sampan.database.lease import Lease
    from sampan.document import Document
    from sampan.events import Sink
    from sampan.image.content import Content
    from sampan.settings.configuration import Settings

    class Ground(Protocol):
        """What a step needs of its build; a `session.Session` has it all."""

        @property
        def settings(self) -> Settings:
            """The settings of this command."""

        @property
        def database(self) -> Database:
            """The database, with no transaction open."""

        @property
        def content(self) -> Content:
            """The store, with the build's lease."""

        @property
        def lease(self) -> Lease:
            """The build's lease."""

        @property
        def sink(self) -> Sink:
            """Who is told of warnings."""

        @property
        def scratch(self) -> str:
            """A directory below SAMPAN_ROOT that goes with the build."""


BRIDGE, NONE, HOST = "bridge", "none", "host"
HOSTNAME = "build"
SHARED, PRIVATE, LOCKED = "shared", "private", "locked"
MAX_MOUNTS = 100
# As shells have them: no such program; SIGKILL.
_NOT_FOUND = 127
_KILLED = 128 + 9
_TAIL_BYTES = 4096
_TAIL_LINES = 20


@frozen
class Layers:
    """Shows what is at `path` in a chain of layers, lowest first; changes are lost, or refused without `writable`."""

    target: str
    layers: "tuple[Result, ...]"
    path: str = "/"
    writable: bool = False


@frozen
class Directory:
    """Shows a directory or file of this machine."""

    target: str
    source: str
    writable: bool = False


@frozen
class Cache:
    """A directory that lasts from build to build, called `id`. Its first owner and mode are those given.

    `sharing` as BuildKit has it: several steps at once may use it (`shared`), get one each (`private`), or wait for
    each other (`locked`).
    """

    target: str
    id: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    sharing: str = SHARED
    read_only: bool = False


@frozen
class Tmpfs:
    """An empty directory in memory."""

    target: str
    size_bytes: int = 0


@frozen
class File:
    """A file that is never on a disk, of a secret for example."""

    target: str
    content: bytes
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


Mount = Layers | Directory | Cache | Tmpfs | File


@frozen
class Step:
    """What is run: `args` and `env` (`KEY=value`) as execve takes them, `user` as docker's USER.

    `add_hosts` are `NAME:ADDRESS`; `network` is `bridge`, `none` or `host`. PATH and HOME are set where `env` has none.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    mounts: tuple[Mount, ...] = ()
    network: str = BRIDGE
    add_hosts: tuple[str, ...] = ()
    hostname: str = HOSTNAME
    shm_bytes: int = 0

    @property
    def command(self) -> str:
        """The command as a person wrote it, for errors."""
        is_shell = len(self.args) == 3 and self.args[1] in {"-c", "-ec", "-lc"}
        return (self.args[2] if is_shell else " ".join(self.args)).strip()[:500]


class StepFailed(SampanError):
    """The step's process ended with a `status` that is not 0; its last lines are the cause."""

    def __init__(self, command: str, status: int, said: str) -> None:
        """Say which and how."""
        first = command.split("\n", 1)[0]
        shown = first if first == command else f"{first} …"
        how = f"was killed by signal {status - 128}" if status > 128 else f"ended with status {status}"
        super().__init__(f"`{shown}` {how}", hints=(_way_out(status),))
        self.status = status
        if said:
            self.__cause__ = SampanError(said)


def _way_out(status: int) -> str:
    """Say what to do about a status, as shells give them."""
    if status == _NOT_FOUND:
        return "a program that it runs is not in the image: take a base that has it, or install it in a RUN before"
    if status == _KILLED:
        return "a process that takes more memory than there is ends so: `dmesg` tells"
    return "put it right and build again: what stands above it comes from the cache"


def run(
    ground: "Ground",
    below: "Sequence[Result]",
    what: Step,
    *,
    output: Callable[[bytes], None] = lambda _: None,
    timeout_seconds: float | None = None,
    epoch: int | None = None,
    parent: "Parent | None" = None,
    traced: "Sequence[int]" = (),
    on_facts: "Callable[[list[trace.Facts]], None]" = lambda _: None,
) -> "Result":
    """Run `what` on top of the layers `below`, lowest first, and return the layer of what it changed.

    A `parent` is used up, whatever happens. What it depended on of the layers at the positions `traced` is given to
    `on_facts`, in their order, if that can be found out here; see `trace`. Raises mirror.Lost where that went wrong,
    whatever came of the step.

    `output` is given what it prints, both streams in their order. No time in the layer is later than `epoch`. Raises
    StepFailed, Exhausted after `timeout_seconds`, CommandNotFound, and what else stands in its way; then nothing of it
    is left. One at a time for one `ground`.
    """
    with saying_how_to_free_space(ground.settings.root), _Run(ground, below, what, traced, parent) as running:
        running.finish(output, timeout_seconds)
        if facts := running.facts():
            on_facts(facts)
        return change.write(ground.content, running.upper, running.stubs, shift=running.shift, epoch=epoch)


def sweep(database: "Database") -> None:
    """Give back the ids and addresses that killed builds had."""
    query = "SELECT container_id FROM ranges UNION SELECT container_id FROM addresses"
    stale = [row[0] for row in database.execute(query) if row[0].startswith("step-") and not _is_alive(row[0])]
    for holder in stale:
        _release(database, holder)


def _release(database: "Database", holder: str) -> None:
    with database.transaction():
        database.execute("DELETE FROM ranges WHERE container_id = ?", (holder,))
        ipam.release(database, holder)


def _holder(identity: str) -> str:
    """Return the name under which this process leases for a step: with its pid and start, as `lease` knows it."""
    return f"step-{os.getpid()}-{leases.start_time(os.getpid())}-{identity}"


def _is_alive(holder: str) -> bool:
    _, pid, started, _ = holder.split("-")
    return leases.start_time(int(pid)) == int(started)


def _check(what: Step) -> None:
    """Refuse what can be known to fail."""
    if not what.args or any("\0" in word for word in (*what.args, *what.env, what.cwd)):
        raise InvalidArgument("a step has no command, or one with a zero byte in it")
    if len(what.mounts) > MAX_MOUNTS:
        raise InvalidArgument(f"a step has more than {MAX_MOUNTS} mounts")
    for mount in what.mounts:
        if not mount.target.startswith("/") or os.path.normpath(mount.target) == "/":
            raise InvalidArgument(f"the mount target `{mount.target}` is not a path below `/`")
    if what.network not in {BRIDGE, NONE, HOST}:
        raise InvalidArgument(f"the network `{what.network}` is none of `bridge`, `none` and `host`")


class _Run:
    """One run; a context that ends the process and gives everything back."""

    def __init__(
        self,
        ground: "Ground",
        below: "Sequence[Result]",
        what: Step,
        traced: "Sequence[int]",
        parent: "Parent | None",
    ) -> None:
        self._ground = ground
        self._below = below
        self._traced = tuple(traced)
        self._traced_lowers: tuple[str, ...] = ()
        self._what = what
        self._settings = ground.settings
        self._is_root = ground.settings.uid == 0
        self._identity = os.urandom(16).hex()
        self._holder = _holder(self._identity)
        self._directory = f"{ground.scratch}/step-{self._identity[:12]}"
        self._locks: list[int] = []
        self._process = parent
        self.upper = f"{self._directory}/upper"
        self.shift = 0
        self.stubs = change.Stubs(frozenset(), {})

    def __enter__(self) -> "Self":
        try:
            _check(self._what)
            sweep(self._ground.database)
            os.mkdir(self._directory, 0o700)
            request = self._request()
            self._process = self._process or Parent(self._settings)
            self._process.begin(request)
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._clean()

    def finish(self, output: Callable[[bytes], None], timeout_seconds: float | None) -> None:
        """Copy its output until it has ended; raise where it failed."""
        if self._process is None:
            raise Internal("a step is not running")
        tail = _Tail(output)
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        status = self._process.follow(tail.take, self._warn, deadline)
        made, touched = self._process.stubs
        self.stubs = change.Stubs(frozenset(made), touched)
        if status:
            raise StepFailed(self._what.command, status, tail.text())

    def facts(self) -> "list[trace.Facts]":
        """Return what it depended on of each traced layer; nothing where that is not known, or too much."""
        try:
            with open(f"{self._directory}/asked", encoding="ascii") as file:
                asked = parse(file.read())
        except FileNotFoundError:
            return []
        found: list[trace.Facts] = []
        for number, directory in enumerate(self._traced_lowers):
            told = asked[str(number)]
            facts = trace.facts(directory, told["seen"], told["read"], told["listed"], shift=self.shift)
            if facts is None or told["is_over"]:
                return []
            found.append(facts)
        return found

    def _warn(self, text: str) -> None:
        self._ground.sink(Event("warning", "step", text))

    def _clean(self) -> None:
        """Undo everything. The process first: what it holds cannot be given to others."""
        if self._process is not None:
            self._process.end()
        for fd in self._locks:
            os.close(fd)
        _release(self._ground.database, self._holder)
        trash.discard(self._settings.root, self._directory)
        trash.empty(self._settings.root)

    def _request(self) -> "Document":
        """Return all that the step's parent needs."""
        what, settings = self._what, self._settings
        features = idmap.features(settings)
        is_idmapped = self._is_root and features.overlay_recipe != idmap.NONE
        if self._is_root and not is_idmapped:
            self.shift = idrange.shared()
        start, network = self._lease(is_idmapped=is_idmapped)
        lowers = overlay.root_source(self._lowers(self._below), self._directory).lowers
        # Positions from the top down, as overlayfs stacks them.
        traced = [len(self._below) - 1 - position for position in self._traced]
        self._traced_lowers = tuple(lowers[position] for position in traced)
        trusted = trust.of(settings, is_single_id=self._is_single_id())
        return {
            "root": settings.root,
            "run": settings.run,
            "features": {name: getattr(features, name) for name in features.__slots__},
            "range": start,
            "is_idmapped": is_idmapped,
            "lowers": list(lowers),
            "traced": traced,
            "directory": self._directory,
            "args": list(what.args),
            "env": list(what.env),
            "trusted_env": dict(trusted.env),
            "cwd": what.cwd,
            "user": what.user,
            "hostname": what.hostname,
            "shm_bytes": what.shm_bytes,
            "network": network,
            "etc": {"hostname": what.hostname, "add_host": list(what.add_hosts)},
            "ports": list(trusted.ports),
            "mounts": [self._mount(number, mount) for number, mount in enumerate(what.mounts)],
            "trust": {
                "target": trust.DIRECTORY,
                "files": {name: text.hex() for name, text in trusted.files.items()},
                "directories": dict(trusted.directories),
            },
        }

    def _lease(self, *, is_idmapped: bool) -> "tuple[int, Document]":
        """Lease an id range and an address; return the range's start (0 for a normal user) and the network's part."""
        database, network = self._ground.database, self._what.network
        if network != BRIDGE and not is_idmapped:
            return self.shift, {"kind": network}
        with database.transaction():
            start = idrange.allocate(database, self._holder) if is_idmapped else self.shift
            if network != BRIDGE:
                return start, {"kind": network}
            found = ipam.default_network(database)
            endpoint = Endpoint(
                self._identity,
                bridge=found.interface,
                address=ipam.lease(database, found, self._holder),
                gateway=found.gateway,
                prefix=found.prefix,
            )
        return start, {"kind": BRIDGE, "network": found.document(), "endpoint": endpoint.document()}

    def _is_single_id(self) -> bool:
        if self._is_root:
            return False
        from sampan.runtime.holder import is_single_id

        return is_single_id()

    def _lowers(self, layers: "Sequence[Result]") -> tuple[str, ...]:
        if not layers:
            empty = f"{self._directory}/empty"
            os.makedirs(empty, 0o755, exist_ok=True)
            os.chown(empty, self.shift, self.shift)
            return (empty,)
        ground = self._ground
        return unpacking.lowers(
            layers,
            ground.content,
            ground.database,
            lease=ground.lease,
            is_root=self._is_root,
            sink=ground.sink,
            shift=self.shift,
        )

    def _mount(self, number: int, mount: Mount) -> "Document":
        """Return a mount as the step's parent takes it."""
        found: Document = {"kind": type(mount).__name__, "target": mount.target}
        match mount:
            case Layers():
                scratch = ""
                if mount.writable:
                    scratch = f"{self._directory}/mount-{number}"
                    os.mkdir(scratch, 0o700)
                    overlay.root_source(self._lowers(mount.layers), scratch)
                return found | {"lowers": list(self._lowers(mount.layers)), "path": mount.path, "scratch": scratch}
            case Directory():
                return found | {"source": os.path.realpath(mount.source), "read_only": not mount.writable}
            case Cache():
                return found | {"source": self._cache(mount), "read_only": mount.read_only}
            case Tmpfs():
                return found | {"size_bytes": mount.size_bytes}
            case File():
                owner = {"mode": mount.mode, "uid": mount.uid, "gid": mount.gid}
                return found | owner | {"content": mount.content.hex()}

    def _cache(self, mount: Cache) -> str:
        """Return the directory of a cache, made and locked as it asks."""
        # Owners differ by who runs the build and how ids reach the disk; nobody else's files are mixed in.
        key = hashlib.sha256(f"{self.shift}\0{mount.id}".encode()).hexdigest()
        number = 0
        while True:
            place = f"{self._settings.root}/cache/mounts/{key}" + (f"-{number}" if number else "")
            os.makedirs(place, 0o700, exist_ok=True)
            fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._locks.append(fd)
            how = {SHARED: fcntl.LOCK_SH, PRIVATE: fcntl.LOCK_EX | fcntl.LOCK_NB, LOCKED: fcntl.LOCK_EX}[mount.sharing]
            try:
                fcntl.flock(fd, how)
            except BlockingIOError:
                number += 1
                continue
            break
        directory = f"{place}/data"
        if not os.path.isdir(directory):
            os.mkdir(directory)
            if not self._is_single_id():
                os.chown(directory, mount.uid + self.shift, mount.gid + self.shift)
            os.chmod(directory, mount.mode)
        return directory


class _Tail:
    """The last lines of the output, for an error, and the way for all of it."""

    def __init__(self, output: Callable[[bytes], None]) -> None:
        self._output = output
        self._kept = bytearray()

    def take(self, piece: bytes) -> None:
        """Pass a piece on."""
        self._kept += piece
        del self._kept[:-_TAIL_BYTES]
        self._output(piece)

    def text(self) -> str:
        """Return the last lines."""
        lines = self._kept.decode("utf-8", "replace").strip().splitlines()
        return "\n".join(lines[-_TAIL_LINES:])
