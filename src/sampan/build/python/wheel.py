"""Wheels, installed by uv for the image's Python and cut into one fragment each.

Theory of operation. All missing wheels are installed by one run of uv into one empty prefix; each wheel's RECORD then
says which files are its own. Where two wheels have a file in common (a stray top-level `tests/__init__.py`), only one
of the two contents can lie there, so those wheels are installed again, each by itself. Console scripts get the image's
interpreter instead of the host's, and RECORD the hashes of what is really there; what depends on the machine or the run
goes.
"""

import base64
import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence

from sampan.build import entry as entries
from sampan.build.cache import Result
from sampan.build.entry import Entry, Source
from sampan.build.graph import Vertex
from sampan.build.layer import fragment
from sampan.build.lock import Wheel
from sampan.build.python import bytecode
from sampan.build.python.resolve import Uv, failed_install
from sampan.errors import Corrupt, Exhausted
from sampan.events import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.build.session import Session
    from sampan.document import Document
    from sampan.storage.diff import Writable

# How wheels become fragments; part of their keys.
VERSION = 1
_MAX_FILE_BYTES = 4 * 1024**3
_KEPT_BYTES = 1 << 20
_MAX_WHEEL_FILES = 100_000
# In *.dist-info: what one run of one installer on one machine leaves.
_TRANSIENT = ("REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")


class Maker:
    """Makes wheel vertices. `prefix` is where wheels live in the image: `usr/local`."""

    def __init__(self, uv: Uv, session: "Session") -> None:
        self._uv = uv
        self._session = session

    def make(self, work: Sequence[tuple[Vertex, tuple[Result, ...]]]) -> list[Result]:
        """Install the wheels of all vertices and keep a fragment for each."""
        wheels = [_wheel(vertex) for vertex, _ in work]
        found = self._entries(wheels)
        modules = [item for made in found for item in made if bytecode.is_wanted(item.path)]
        compiled = _by_wheel(found, bytecode.compiled(self._session.sandbox(), self._uv.release.python, modules))
        results = []
        for number, ((vertex, _), wheel) in enumerate(zip(work, wheels, strict=True), 1):
            made = sorted([*found[number - 1], *compiled[number - 1]], key=lambda item: item.path)
            results.append(self._session.cache.put_fragment(vertex.digest, _filler(wheel, made)))
            subject = f"{wheel.name} {wheel.version}"
            self._session.sink(Event("progress", "Python packages", subject, current=number, total=len(work)))
        return results

    def _entries(self, wheels: Sequence[Wheel]) -> list[list[Entry]]:
        """Install `wheels` and return each one's files."""
        installed = _Prefix(self._install(wheels, "wheels"))
        shared = installed.shared()
        found = []
        for number, wheel in enumerate(wheels):
            prefix = _Prefix(self._install([wheel], f"wheel-{number}")) if wheel.name in shared else installed
            found.append(list(prefix.entries(wheel, self._uv.release.python)))
        return found

    def _install(self, wheels: Sequence[Wheel], name: str) -> str:
        """Install `wheels` into a new prefix in the scratch directory; return its path."""
        prefix = f"{self._uv.scratch}/{name}"
        asked = f"{prefix}.txt"
        with open(asked, "w", encoding="utf-8") as file:
            for wheel in wheels:
                hashes = " ".join(f"--hash=sha256:{value}" for value in wheel.hashes)
                file.write(f"{wheel.name}=={wheel.version} {hashes}\n")
        fixed = ("pip", "install", "--no-deps", "--require-hashes", "--prefix", prefix, "-r", asked)
        completed = self._uv.run([*fixed, *self._uv.target()])
        if completed.status != 0:
            raise failed_install(self._uv, completed)
        return prefix


def _wheel(vertex: Vertex) -> Wheel:
    options = vertex.options
    return Wheel(options["name"], options["version"], options["file"], tuple(options["sha256"]))


def _filler(wheel: Wheel, made: Sequence[Entry]) -> "Callable[[Writable], Document]":
    """Return what writes the fragment of `made` and says what it is.

    Directories are named, not written: wheels share them, and docker refuses a layer that has a path twice (tar-split).
    """
    files = [item for item in made if item.kind != entries.DIRECTORY]
    directories = sorted({item.path for item in made if item.kind == entries.DIRECTORY})

    def fill(into: "Writable") -> "Document":
        unpacked = fragment(files, into)
        return {"wheel": wheel.file, "directories": directories, "unpacked": unpacked, "files": len(files)}

    return fill


def _by_wheel(found: Sequence[Sequence[Entry]], compiled: Sequence[Entry]) -> list[list[Entry]]:
    """Give each compiled file, and the directory it is in, to the wheels that have its module."""
    by_directory: dict[str, list[Entry]] = {}
    for item in compiled:
        module = item.path.rpartition("/__pycache__")[0]
        by_directory.setdefault(module, []).append(item)
    parted = []
    for made in found:
        names = {item.path.removesuffix(".py") for item in made if item.path.endswith(".py")}
        directories = dict.fromkeys(name.rpartition("/")[0] for name in sorted(names))
        mine = [item for directory in directories for item in by_directory.get(directory, ())]
        parted.append([item for item in mine if item.kind == entries.DIRECTORY or _module_of(item.path) in names])
    return parted


def _module_of(path: str) -> str:
    """Return the module's path, without its suffix, of a compiled file."""
    directory, _, name = path.partition("/__pycache__/")
    return f"{directory}/{name.rpartition('.cpython-')[0]}"


class _Prefix:
    """What uv installed below one directory."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._site = _find_site(path)
        # Where the interpreter's scheme puts the prefix's root, relative to site-packages:
        # lib/python3.11/site-packages.
        self._root = os.path.dirname(os.path.dirname(os.path.dirname(self._site)))
        self._records = {name: self._read_record(name) for name in _dist_infos(self._site)}

    def shared(self) -> set[str]:
        """Return the names of wheels that have a file in common with another."""
        owners: dict[str, list[str]] = {}
        for dist_info, paths in self._records.items():
            for path in paths:
                owners.setdefault(path, []).append(_name_of(dist_info))
        return {name for names in owners.values() if len(names) > 1 for name in names}

    def entries(self, wheel: Wheel, python: str) -> Iterator[Entry]:
        """Yield the files of one wheel where they go in the image, RECORD last, and the directories above them."""
        dist_info = next((name for name in self._records if _name_of(name) == wheel.name), None)
        if dist_info is None:
            raise Corrupt(f"the wheel `{wheel.file}` holds no metadata of `{wheel.name}`")
        found: list[Entry] = []
        rows: list[tuple[str, str, str]] = []
        site = f"usr/local/lib/python{python}/dist-packages"
        for path in sorted(self._records[dist_info]):
            relative = os.path.relpath(path, self._site)
            if _is_transient(relative, dist_info):
                continue
            placed = (
                f"{site}/{relative}"
                if not relative.startswith("../")
                else f"usr/local/{os.path.relpath(path, self._root)}"
            )
            content, digest = _content(path, wheel)
            mode = 0o755 if os.stat(path).st_mode & 0o100 else 0o644
            if placed.startswith("usr/local/bin/") and isinstance(content, bytes):
                content, mode = _with_interpreter(content, python), 0o755
                digest = hashlib.sha256(content).digest()
            item = entries.stamped(placed, content, digest.hex(), mode)
            found.append(item)
            rows.append((relative, f"sha256={_urlsafe(digest)}", str(item.size_bytes)))
        record = _record([*rows, (f"{dist_info}/RECORD", "", "")])
        found.append(entries.stamped(f"{site}/{dist_info}/RECORD", record, hashlib.sha256(record).hexdigest()))
        yield from (
            entries.directory(path) for path in entries.parents([item.path for item in found]) if path.count("/") > 2
        )
        yield from sorted(found, key=lambda item: item.path)

    def _read_record(self, dist_info: str) -> set[str]:
        """Return the absolute paths that a RECORD names, all of them below the prefix."""
        with open(f"{self._site}/{dist_info}/RECORD", encoding="utf-8", newline="") as file:
            names = [row[0] for row in csv.reader(file) if row]
        if len(names) > _MAX_WHEEL_FILES:
            raise Exhausted(f"`{dist_info}` has more than {_MAX_WHEEL_FILES} files")
        paths = {os.path.normpath(f"{self._site}/{name}") for name in names}
        # SECURITY: a RECORD is the wheel's own claim; it may not name files outside of what was installed.
        if not all(path.startswith(f"{self._path}/") for path in paths):
            raise Corrupt(f"the RECORD of `{dist_info}` leads out of its prefix")
        return {path for path in paths if not path.endswith((".pyc", f"{dist_info}/RECORD"))}


def _find_site(prefix: str) -> str:
    """Return the site directory below a prefix, wherever the host's interpreter has it."""
    for directory, names, _ in os.walk(prefix):
        if any(name.endswith(".dist-info") for name in names):
            return directory
    raise Corrupt("uv installed no package")


def _dist_infos(site: str) -> list[str]:
    return sorted(name for name in os.listdir(site) if name.endswith(".dist-info"))


def _name_of(dist_info: str) -> str:
    from sampan.build.python.requirement import normalise

    return normalise(dist_info.removesuffix(".dist-info").rpartition("-")[0])


def _is_transient(relative: str, dist_info: str) -> bool:
    head, _, name = relative.rpartition("/")
    return head == dist_info and name in _TRANSIENT


def _content(path: str, wheel: Wheel) -> tuple[bytes | Source, bytes]:
    """Return a file's content, of a large one what reads it again, and the digest of it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Corrupt(f"the RECORD of `{wheel.file}` names a file that is not there") from error
    with open(fd, "rb") as file:
        content = file.read(_KEPT_BYTES + 1)
        hasher = hashlib.sha256(content)
        size = len(content)
        while piece := file.read(_KEPT_BYTES):
            hasher.update(piece)
            size += len(piece)
    if size > _MAX_FILE_BYTES:
        raise Exhausted(f"a file of `{wheel.file}` has more than {_MAX_FILE_BYTES} bytes")
    kept = content if size <= _KEPT_BYTES else Source(path, size, hasher.hexdigest())
    return kept, hasher.digest()


def _with_interpreter(content: bytes, python: str) -> bytes:
    """Give a Python script the image's interpreter: the host's path, `env` and `/bin/sh` are not there."""
    if not content.startswith(b"#!"):
        return content
    line, _, rest = content.partition(b"\n")
    # A path that is too long for a `#!` line is run by the shell (distlib's trick, which uv uses too).
    if line == b"#!/bin/sh" and rest.startswith(b"'''exec' "):
        rest = rest.partition(b"\n' '''\n")[2]
    elif b"python" not in line:
        return content
    return f"#!/usr/bin/python{python}\n".encode() + rest


def _record(rows: Sequence[tuple[str, str, str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(sorted(rows))
    return out.getvalue().encode()


def _urlsafe(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
