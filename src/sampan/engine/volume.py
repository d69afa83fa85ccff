"""Volumes: what `-v` and an image's VOLUME lines mount. Hot path: only with volumes is there anything to do.

A named volume is volumes/NAME/_data and a row; it is made when it is first used, and then filled with what the image
has at that place (docker's copy-up), owner and mode of the place included. An anonymous one has a random name of 64 hex
digits. A missing source of a `-v` bind is made as a directory (docker's words: "If you bind-mount a file or directory
that does not yet exist, -v creates the endpoint").

SECURITY: the image is hostile: its files are reached through descriptors, links are never followed, and what is copied
ends at FILES files and BYTES bytes.
"""

import os
import stat

from sampan.engine.run_options import VolumeMount
from sampan.errors import Exhausted, NotFound
from sampan.storage import trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.database.connection import Database
    from sampan.document import Document
    from sampan.settings.configuration import Settings

FILES = 1_000_000
BYTES = 64 * 1024**3
DEPTH = 200
_CHUNK_BYTES = 1024 * 1024
_NAME_BYTES = 32


def complete(volumes: tuple[VolumeMount, ...], image_volumes: "Document") -> tuple[VolumeMount, ...]:
    """Return `volumes` with the image's VOLUME paths that nothing covers, and with names for the anonymous ones."""
    covered = {volume.destination for volume in volumes}
    implied = [
        VolumeMount("volume", "", path) for path in image_volumes if path not in covered and path.startswith("/")
    ]
    return tuple(_named(volume) for volume in (*volumes, *implied))


def _named(volume: VolumeMount) -> VolumeMount:
    if volume.kind != "volume" or volume.source:
        return volume
    name = os.urandom(_NAME_BYTES).hex()
    return VolumeMount("volume", name, volume.destination, read_only=volume.read_only, options=volume.options)


def data(settings: "Settings", name: str) -> str:
    """Return the directory of a volume's content."""
    return f"{settings.root}/volumes/{name}/_data"


def prepare(
    database: "Database",
    settings: "Settings",
    volumes: tuple[VolumeMount, ...],
    open_root: "Callable[[], int]",
    created: int,
) -> tuple[VolumeMount, ...]:
    """Make what is not there and return the volumes with paths as sources.

    `open_root` returns a descriptor of the container's root, and is called only to fill a volume. `created` is in
    nanoseconds since the epoch.
    """
    return tuple(_prepare(database, settings, volume, open_root, created) for volume in volumes)


def _prepare(
    database: "Database", settings: "Settings", volume: VolumeMount, open_root: "Callable[[], int]", created: int
) -> VolumeMount:
    if volume.kind == "tmpfs":
        return volume
    source = volume.source
    if volume.kind == "bind":
        _make_bind_source(source)
    else:
        source = data(settings, volume.source)
        if not os.path.isdir(source):
            _make(database, settings, volume, open_root, created)
    return VolumeMount("bind", source, volume.destination, read_only=volume.read_only, options=volume.options)


def _make_bind_source(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except FileExistsError:
        return  # a file: it is bound as one
    except OSError as error:
        raise NotFound(f"the bind source `{path}` does not exist and cannot be made") from error


def _make(
    database: "Database", settings: "Settings", volume: VolumeMount, open_root: "Callable[[], int]", created: int
) -> None:
    """Fill a directory beside its place, and rename it there together with its row: a volume is whole or not there.

    Of two who make one volume at once the second's work goes into the trash.
    """
    parent = f"{settings.root}/volumes"
    fresh = f"{parent}/.{volume.source}-{os.getpid()}"
    trash.discard(settings.root, fresh)
    os.makedirs(f"{fresh}/_data", 0o755)
    if "nocopy" not in volume.options:
        root_fd = open_root()
        try:
            _fill(root_fd, volume.destination, f"{fresh}/_data")
        finally:
            os.close(root_fd)
    with database.transaction():
        if os.path.isdir(f"{parent}/{volume.source}"):
            trash.discard(settings.root, fresh)
        else:
            os.rename(fresh, f"{parent}/{volume.source}")
        database.execute("INSERT OR IGNORE INTO volumes(name, created) VALUES (?, ?)", (volume.source, created))


def _fill(root_fd: int, path: str, directory: str) -> None:
    """Copy what the image has at `path`, if that is a directory."""
    from sampan.runtime import target  # most starts fill no volume

    try:
        source = target.find(root_fd, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    destination = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        copy = _Copy()
        copy.tree(source, destination, 0)
    finally:
        os.close(source)
        os.close(destination)


class _Copy:
    """One copy, and how much of it is done."""

    __slots__ = ("_bytes", "_files")

    def __init__(self) -> None:
        self._files = 0
        self._bytes = 0

    def tree(self, source: int, destination: int, depth: int) -> None:
        """Copy the content of one open directory to another, then its attributes."""
        if depth > DEPTH:
            raise Exhausted(f"the image's directory is nested deeper than {DEPTH}, too deep to fill a volume from")
        for name in os.listdir(source):
            self._files += 1
            if self._files > FILES:
                raise Exhausted(f"the image's directory has more than {FILES} files, too many to fill a volume from")
            self._entry(source, destination, name, depth)
        _copy_attributes(os.fstat(source), destination)
        for attribute in os.listxattr(source):
            _copy_xattr(source, destination, attribute)

    def _entry(self, source: int, destination: int, name: str, depth: int) -> None:
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=destination)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            below, made = os.open(name, flags, dir_fd=source), os.open(name, flags, dir_fd=destination)
            try:
                self.tree(below, made, depth + 1)
            finally:
                os.close(below)
                os.close(made)
        elif stat.S_ISREG(status.st_mode):
            self._file(source, destination, name)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=destination)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=destination, follow_symlinks=False)
        elif stat.S_ISFIFO(status.st_mode):
            os.mkfifo(name, stat.S_IMODE(status.st_mode), dir_fd=destination)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=destination, follow_symlinks=False)
        # Devices and sockets have no business in a volume.

    def _file(self, source: int, destination: int, name: str) -> None:
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        reading = os.open(name, os.O_RDONLY | os.O_NONBLOCK | flags, dir_fd=source)
        writing = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=destination)
        try:
            while data := os.read(reading, _CHUNK_BYTES):
                self._bytes += len(data)
                if self._bytes > BYTES:
                    raise Exhausted(
                        f"the image's directory is larger than {BYTES} bytes, too large to fill a volume from"
                    )
                view = memoryview(data)
                while view:
                    view = view[os.write(writing, view) :]
            _copy_attributes(os.fstat(reading), writing)
            for attribute in os.listxattr(reading):
                _copy_xattr(reading, writing, attribute)
        finally:
            os.close(reading)
            os.close(writing)


def _copy_attributes(status: os.stat_result, fd: int) -> None:
    os.fchown(fd, status.st_uid, status.st_gid)
    os.fchmod(fd, stat.S_IMODE(status.st_mode))  # after chown, which takes set-id bits away
    os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_xattr(source: int, destination: int, name: str) -> None:
    # The overlay's own bookkeeping stays behind.
    if not name.startswith(("trusted.overlay.", "user.overlay.")):
        os.setxattr(destination, name, os.getxattr(source, name))
