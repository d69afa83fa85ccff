"""The files of a project that its image gets: the directory less what .dockerignore and the defaults keep out. Hot.

Every file is read once, by descriptors that follow no link, so what is hashed is what goes into the layer. Links stay
links, and one that leads out of the project is refused. Modes become 0644 or 0755: whose umask wrote a file is no part
of it. Bulk is streamed: a file above `_KEPT_BYTES` is hashed now and read again when the layer is made, and must be the
same.
"""

import os
import stat

from sampan.build import ignore
from sampan.build.entry import Source
from sampan.errors import Exhausted, InvalidArgument, NotFound, Place
from sampan.oci.digest import Digest, new_hasher

MAX_FILES = 200_000
MAX_TOTAL_BYTES = 16 * 1024**3
MAX_DEPTH = 100
_KEPT_BYTES = 1 << 20
_MAX_KEPT_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20


class File:
    """One regular file or link of the context. `content` is None for a large file, which is read again."""

    __slots__ = ("content", "hash", "is_executable", "path", "size_bytes", "target")

    def __init__(
        self, path: str, *, is_executable: bool, size_bytes: int, hash: str, content: bytes | None, target: str
    ) -> None:
        self.path = path
        self.is_executable = is_executable
        self.size_bytes = size_bytes
        self.hash = hash
        self.content = content
        self.target = target


class Context:
    """All files of a project, sorted by path; `directories` holds every directory, empty ones too."""

    __slots__ = ("_digest", "directories", "files", "root")

    def __init__(self, root: str, files: "list[File]", directories: "list[str]") -> None:
        self.root = root
        self.files = files
        self.directories = directories
        self._digest: Digest | None = None

    @property
    def digest(self) -> Digest:
        """The digest of all names, modes and contents."""
        if self._digest is None:
            hasher = new_hasher()
            for directory in self.directories:
                hasher.update(f"d\0{directory}\0".encode(errors="surrogateescape"))
            for file in self.files:
                kind = "l" if file.target else "x" if file.is_executable else "f"
                hasher.update(f"{kind}\0{file.path}\0{file.target or file.hash}\0".encode(errors="surrogateescape"))
            self._digest = Digest("sha256", hasher.hexdigest())
        return self._digest

    def read(self, file: File) -> bytes:
        """Return the content of a file that is known to be small; raises Conflict where it has changed."""
        found = self.content(file)
        if isinstance(found, bytes):
            return found
        pieces = []
        while piece := found.read(_CHUNK_BYTES):
            pieces.append(piece)
        return b"".join(pieces)

    def content(self, file: File) -> "bytes | Source":
        """Return the content of a file, of a large one what reads it when the layer is written."""
        return (
            file.content if file.content is not None else Source(f"{self.root}/{file.path}", file.size_bytes, file.hash)
        )


def scan(directory: str) -> Context:
    """Read the project in `directory`.

    Raises NotFound, InvalidArgument for a link that leads out or a file nobody may read, Exhausted past a bound.
    """
    root = os.path.realpath(directory)
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"there is no directory `{directory}`") from error
    except NotADirectoryError as error:
        raise InvalidArgument(f"`{directory}` is not a directory") from error
    try:
        walk = _Walk(_rules(fd))
        walk.enter(fd, "", 0)
    finally:
        os.close(fd)
    return Context(root, sorted(walk.files, key=_path), sorted(walk.directories))


def _path(file: File) -> str:
    return file.path


def _rules(fd: int) -> ignore.Rules:
    try:
        content = _read(fd, ".dockerignore")
    except FileNotFoundError:
        content = b""
    return ignore.parse(content)


class _Walk:
    """The walk through a directory tree, by descriptors."""

    def __init__(self, rules: ignore.Rules) -> None:
        self._rules = rules
        self._total = 0
        self.files: list[File] = []
        self.directories: list[str] = []

    def enter(self, fd: int, prefix: str, depth: int) -> None:
        """Take in the directory open at `fd`."""
        if depth > MAX_DEPTH:
            raise Exhausted(f"`{prefix}` lies more than {MAX_DEPTH} directories deep", hints=(_IGNORE,))
        with os.scandir(fd) as found:
            names = sorted(found, key=_name)
        for item in names:
            path = f"{prefix}{item.name}"
            if item.is_dir(follow_symlinks=False):
                self._directory(fd, item.name, path, depth)
            elif not self._rules.excludes(path):
                self._file(fd, item, path)

    def _directory(self, fd: int, name: str, path: str, depth: int) -> None:
        if self._rules.prunes(path):
            return
        try:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        except PermissionError as error:
            raise InvalidArgument(f"`{path}` cannot be read", hints=(_IGNORE,)) from error
        try:
            if not self._rules.excludes(path):
                self.directories.append(path)
            self.enter(inner, f"{path}/", depth + 1)
        finally:
            os.close(inner)

    def _file(self, fd: int, item: "os.DirEntry[str]", path: str) -> None:
        if len(self.files) >= MAX_FILES:
            raise Exhausted(f"the project has more than {MAX_FILES} files", hints=(_IGNORE,))
        if item.is_symlink():
            target = os.readlink(item.name, dir_fd=fd)
            _check_link(path, target)
            self.files.append(File(path, is_executable=False, size_bytes=0, hash="", content=None, target=target))
        elif item.is_file(follow_symlinks=False):
            self._regular(fd, item.name, path)
        elif not stat.S_ISSOCK(item.stat(follow_symlinks=False).st_mode):
            # A socket is a running program's and means nothing in an image, docker leaves it out too.
            raise InvalidArgument(f"`{path}` is a device or pipe, which no image can hold", hints=(_IGNORE,))

    def _regular(self, fd: int, name: str, path: str) -> None:
        try:
            opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
        except PermissionError as error:
            raise InvalidArgument(f"`{path}` cannot be read", hints=(_IGNORE,)) from error
        try:
            mode = os.fstat(opened).st_mode
            size, digest, content = _hashed(opened)
        finally:
            os.close(opened)
        self._total += size
        if self._total > MAX_TOTAL_BYTES:
            raise Exhausted(f"the project has more than {MAX_TOTAL_BYTES} bytes", hints=(_IGNORE,))
        if self._total > _MAX_KEPT_BYTES:
            content = None
        file = File(path, is_executable=bool(mode & 0o100), size_bytes=size, hash=digest, content=content, target="")
        self.files.append(file)


_IGNORE = "keep it out of the image by a line in .dockerignore"


def _name(item: "os.DirEntry[str]") -> str:
    return item.name


def _check_link(path: str, target: str) -> None:
    """Raise InvalidArgument where a link leads out of the project: what it points to is not there in the image."""
    depth = path.count("/")
    for part in target.split("/"):
        depth += -1 if part == ".." else 0 if part in {"", "."} else 1
        if depth < 0:
            break
    if depth < 0 or target.startswith("/"):
        hints = ("put the file itself into the project", _IGNORE)
        raise InvalidArgument(
            f"the link `{path}` leads out of the project, to `{target[:200]}`", hints=hints, at=Place(path)
        )


def _hashed(fd: int) -> "tuple[int, str, bytes | None]":
    """Return size, hash and, of a file that is not large, the content."""
    hasher = new_hasher()
    pieces = []
    size = 0
    while piece := os.read(fd, _CHUNK_BYTES):
        size += len(piece)
        hasher.update(piece)
        if size <= _KEPT_BYTES:
            pieces.append(piece)
        elif size > MAX_TOTAL_BYTES:
            break
    return size, hasher.hexdigest(), b"".join(pieces) if size <= _KEPT_BYTES else None


def _read(fd: int, name: str) -> bytes:
    opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        return os.read(opened, _KEPT_BYTES)
    finally:
        os.close(opened)
