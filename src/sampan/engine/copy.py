"""docker cp: files out of a container and into one, whether it runs or not.

A tar stream crosses between two processes: a visitor in the container's root (`visit`) and this command. One packs
(`packer`), the other places (`placer`), and `copyrules` says under which name. Neither trusts what the other sends.

Owners, as docker's manual has them: what comes in is the root's of the container, what comes out is the person's; with
`archive` it stays whose it was (out: for root only). A tar from stdin keeps its own.
"""

import errno
import os
import stat

from sampan.engine import copyrules, spot, visit
from sampan.engine.packer import Packer
from sampan.engine.placer import Placer, Rules
from sampan.errors import Corrupt, InvalidArgument, NotFound, SampanError, Unsupported
from sampan.storage.compression import decompressed
from sampan.storage.space import saying_how_to_free_space
from sampan.storage.tape import Bounds, Tape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.document import Document
    from sampan.engine.visit import Guest, Visit
    from sampan.settings.configuration import Settings
    from sampan.storage.compression import Readable

_CHUNK_BYTES = 1024 * 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Copied:
    """What was copied: `size_bytes` of the tar stream (docker's count), and what was left out."""

    __slots__ = ("size_bytes", "warnings")

    def __init__(self, size_bytes: int, warnings: list[str]) -> None:
        self.size_bytes = size_bytes
        self.warnings = warnings


def to_local(
    settings: "Settings", name: str, path: str, local: str, *, follow: bool = False, archive: bool = False
) -> Copied:
    """Copy `path` of the container to the path `local` here; `follow` copies what a link at its end leads to.

    Raises NotFound, Conflict, InvalidArgument, Exhausted, Corrupt, OSError.
    """
    landing = _landing(local)
    try:
        with visit.open_root(settings, name) as root, _sending(root, name, path, follow=follow) as guest:
            found = guest.hear()
            rename = _rename(found, local, landing)
            rules = Rules(gives=archive and settings.uid == 0, rename=rename)
            counted = _Counted(lambda size: os.read(guest.data_fd, size))
            placer = Placer(Tape(counted.read, Bounds()), landing.parent, ".", rules)
            _place(guest, placer, local)
            return Copied(counted.count, [*guest.hear()["warnings"], *placer.warnings])
    finally:
        os.close(landing.parent)


def to_stream(
    settings: "Settings", name: str, path: str, write: "Callable[[bytes], object]", *, follow: bool = False
) -> Copied:
    """Give the tar of `path` of the container to `write`, piece by piece."""
    with visit.open_root(settings, name) as root, _sending(root, name, path, follow=follow) as guest:
        guest.hear()
        return _pumped(guest, write)


def export(settings: "Settings", name: str, write: "Callable[[bytes], object]") -> Copied:
    """Give the tar of the container's whole root, without its volumes, to `write`, piece by piece: docker export."""

    def work(guest: "Guest") -> "Document":
        directory = os.open(".", _DIRECTORY, dir_fd=guest.root_fd)
        with open(guest.data_fd, "wb", buffering=_CHUNK_BYTES) as file:
            packer = Packer(file)
            for child in sorted(os.listdir(directory), key=os.fsencode):
                packer.add(directory, child, child)
            packer.finish()
        return {"warnings": packer.warnings}

    with visit.open_root(settings, name) as root, visit.begin(root, work, sends=True, writes=False, bare=True) as guest:
        return _pumped(guest, write)


def _pumped(guest: "Visit", write: "Callable[[bytes], object]") -> Copied:
    """Hand on what the visitor sends, to its end."""
    size = 0
    while data := os.read(guest.data_fd, _CHUNK_BYTES):
        write(data)
        size += len(data)
    return Copied(size, guest.hear()["warnings"])


def from_local(
    settings: "Settings", local: str, name: str, path: str, *, follow: bool = False, archive: bool = False
) -> Copied:
    """Copy the path `local` here to `path` of the container; see `to_local`."""
    source = _source(local, follow=follow)
    try:
        owner = None if archive else (0, 0)
        with visit.open_root(settings, name) as root, _receiving(root, name, path, source=source, owner=owner) as guest:
            counted = _Counted(None)
            packer = Packer(_Pipe(guest.data_fd, counted))

            def pack() -> None:
                packer.add(source.parent, source.name, source.base)
                packer.finish()

            told = _feed(guest, pack)
            return Copied(counted.count, [*packer.warnings, *told["warnings"]])
    finally:
        os.close(source.parent)


def from_stream(settings: "Settings", source: "Readable", name: str, path: str) -> Copied:
    """Unpack the tar `source` (plain or compressed) in the directory `path` of the container; its ids are kept."""
    with visit.open_root(settings, name) as root, _receiving(root, name, path, source=None, owner=None) as guest:
        counted = _Counted(None)
        pipe = _Pipe(guest.data_fd, counted)

        def pump() -> None:
            for piece in decompressed(source):
                pipe.write(piece)

        return Copied(counted.count, _feed(guest, pump)["warnings"])


class _Landing:
    """Where on this machine a copy lands: the directory `parent`, the `name` in it (`.` for itself), what is there."""

    __slots__ = ("exists", "is_directory", "name", "parent")

    def __init__(self, parent: int, name: str, *, exists: bool, is_directory: bool) -> None:
        self.parent = parent
        self.name = name
        self.exists = exists
        self.is_directory = is_directory


def _landing(local: str) -> _Landing:
    """Look at the destination, through links, as docker does; raises NotFound, InvalidArgument."""
    try:
        status = os.stat(local)
    except FileNotFoundError:
        # A dangling link has its target made.
        resolved = os.path.realpath(local)
        return _Landing(_open_parent(resolved), os.path.basename(resolved), exists=False, is_directory=False)
    except NotADirectoryError as error:
        raise InvalidArgument(f"`{local}` is no directory, or a part of it is none") from error
    if stat.S_ISDIR(status.st_mode):
        return _Landing(os.open(local, _DIRECTORY), ".", exists=True, is_directory=True)
    if not stat.S_ISREG(status.st_mode):
        raise InvalidArgument(f"`{local}` is neither a directory nor a file", hints=("`-` writes a tar to stdout",))
    resolved = os.path.realpath(local)
    return _Landing(_open_parent(resolved), os.path.basename(resolved), exists=True, is_directory=False)


def _open_parent(resolved: str) -> int:
    parent = os.path.dirname(resolved)
    try:
        return os.open(parent, _DIRECTORY)
    except FileNotFoundError as error:
        raise NotFound(f"there is no directory `{parent}`", hints=(f"make it: `mkdir -p {parent}`",)) from error
    except NotADirectoryError as error:
        raise InvalidArgument(f"`{parent}` is no directory") from error


class _Source:
    """What is copied from this machine: `name` in the open directory `parent`, called `base` in the archive."""

    __slots__ = ("base", "is_directory", "name", "parent")

    def __init__(self, parent: int, name: str, base: str, *, is_directory: bool) -> None:
        self.parent = parent
        self.name = name
        self.base = base
        self.is_directory = is_directory


def _source(local: str, *, follow: bool) -> _Source:
    """Look at the source; raises NotFound, InvalidArgument."""
    # docker: the name of what is copied is that of the absolute path, so `..` has one.
    base = "." if copyrules.is_content(local) else os.path.basename(os.path.abspath(local)) or "."
    try:
        is_link = stat.S_ISLNK(os.lstat(local).st_mode)
        if not is_link and not stat.S_ISDIR(os.lstat(local).st_mode) and local.endswith("/"):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), local)
        if os.path.isdir(local) and (follow or not is_link):
            return _Source(os.open(local, _DIRECTORY), ".", base, is_directory=True)
        place = os.path.realpath(local) if follow else local
        os.lstat(place)
        return _Source(
            os.open(os.path.dirname(place) or ".", _DIRECTORY), os.path.basename(place), base, is_directory=False
        )
    except FileNotFoundError as error:
        raise NotFound(f"there is no file or directory `{local}`") from error
    except NotADirectoryError as error:
        raise InvalidArgument(f"`{local}` is no directory, or a part of it is none") from error


def _rename(found: "Document", local: str, landing: _Landing) -> tuple[bytes, bytes] | None:
    """Return how the names in the archive change, for `Rules`."""
    new = copyrules.name_for(
        is_directory=found["is_directory"],
        destination=local,
        exists=landing.exists,
        to_directory=landing.is_directory,
        name=landing.name,
    )
    return _renaming(found["base"], new)


def _renaming(base: str, new: str | None) -> tuple[bytes, bytes] | None:
    return None if new is None else (b"" if base == "." else os.fsencode(base), os.fsencode(new))


def _sending(root: visit.Root, name: str, path: str, *, follow: bool) -> "Visit":
    """Have a visitor tell what is at `path`, and send the tar of it."""
    base = copyrules.base(path)

    def work(guest: "Guest") -> "Document":
        with _found(guest.root_fd, name, path, follow=follow) as place:
            guest.tell({"base": base, "is_directory": place.is_directory})
            with open(guest.data_fd, "wb", buffering=_CHUNK_BYTES) as file:
                packer = Packer(file)
                packer.add(place.parent, place.name, base)
                packer.finish()
            return {"warnings": packer.warnings}

    return visit.begin(root, work, sends=True, writes=False)


def _found(root_fd: int, name: str, path: str, *, follow: bool) -> spot.Spot:
    try:
        place = spot.find(root_fd, path, follow=follow)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(name, path) from error
    if place.status is None:
        place.__exit__()
        raise _missing(name, path)
    return place


def _missing(name: str, path: str) -> NotFound:
    return NotFound(f"there is no `{path}` in the container `{name}`")


def _receiving(
    root: visit.Root, name: str, path: str, *, source: _Source | None, owner: tuple[int, int] | None
) -> "Visit":
    """Have a visitor place a tar at `path`; without a source it comes from stdin, and `path` must be a directory."""

    def work(guest: "Guest") -> "Document":
        with _destination(guest.root_fd, name, path) as place:
            rename = None
            if source is None:
                if not place.is_directory:
                    raise InvalidArgument(f"the destination `{name}:{path}` must be a directory")
            else:
                new = copyrules.name_for(
                    is_directory=source.is_directory,
                    destination=path,
                    exists=place.status is not None,
                    to_directory=place.is_directory,
                    name=place.name,
                )
                rename = _renaming(source.base, new)
            directory = f"{place.directory}/{place.name}" if place.is_directory else place.directory
            rules = Rules(owner=owner, gives=not root.is_single_id, follows=True, attributes=True, rename=rename)
            tape = Tape(lambda size: os.read(guest.data_fd, size), Bounds())
            placer = Placer(tape, guest.root_fd, directory, rules)
            try:
                placer.run()
            except OSError as error:
                raise _explained(error, name, path) from error
            return {"warnings": placer.warnings}

    return visit.begin(root, work, sends=False, writes=True)


def _destination(root_fd: int, name: str, path: str) -> spot.Spot:
    """Look at the destination, through links; a path that says directory but is not there is that of its name."""
    try:
        try:
            place = spot.find(root_fd, path, follow=True)
        except FileNotFoundError:
            stripped = path.rstrip("/").removesuffix("/.").rstrip("/")
            if stripped == path:
                raise
            place = spot.find(root_fd, stripped, follow=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        parent = os.path.dirname(path.rstrip("/")) or "/"
        raise NotFound(
            f"there is no directory `{parent}` in the container `{name}`",
            hints=(f"make it: `sampan exec {name} mkdir -p {parent}`",),
        ) from error
    if place.status is not None and not place.is_directory and not stat.S_ISREG(place.status.st_mode):
        place.__exit__()
        raise InvalidArgument(f"the destination `{name}:{path}` must be a directory or a file")
    return place


def _explained(error: OSError, name: str, path: str) -> SampanError:
    """Say what a person can do about an error of the container's file system."""
    if error.errno == errno.EROFS:
        return Unsupported(f"the file system at `{path}` in the container `{name}` is read-only")
    if error.errno == errno.EBUSY:
        return Unsupported(f"something is mounted on `{error.filename}` in the container `{name}`")
    return SampanError(f"cannot copy to `{path}` in the container `{name}`")


def _place(guest: "Visit", placer: Placer, local: str) -> None:
    """Place what the visitor sends; where that breaks off since it has failed, raise its error."""
    try:
        with saying_how_to_free_space(local):
            placer.run()
    except Corrupt:
        guest.hear()
        raise


def _feed(guest: "Visit", act: "Callable[[], None]") -> "Document":
    """Do our half of a copy into the container; return what the visitor tells at the end, or raise its error."""
    try:
        act()
    except BrokenPipeError:
        pass  # what it tells says why
    guest.end_data()
    return guest.hear()


class _Counted:
    """Counts the bytes that go by."""

    __slots__ = ("_read", "count")

    def __init__(self, read: "Callable[[int], bytes] | None") -> None:
        self._read = read
        self.count = 0

    def read(self, size: int) -> bytes:
        """Read on."""
        data = self._read(size) if self._read else b""
        self.count += len(data)
        return data


class _Pipe:
    """The visitor's pipe as a file to write to."""

    __slots__ = ("_counted", "_fd")

    def __init__(self, fd: int, counted: _Counted) -> None:
        self._fd = fd
        self._counted = counted

    def write(self, data: "bytes | memoryview") -> int:
        """Write all of it."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._counted.count += len(data)
        return len(data)
