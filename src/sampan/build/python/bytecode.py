"""Compiled modules (.pyc) of the standard library and wheels, by the image's own interpreter in a build container.

An image is read-only to its application, so without these every start would compile all that it imports: seconds for a
large set. They are hash-based and unchecked (PEP 552): no time stamps, so equal sources give equal files, and the
interpreter need not look at a source to believe them. Sources are compiled, never executed.
"""

import os
import struct

from sampan.build import entry as entries
from sampan.build import layer
from sampan.errors import Corrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sampan.build.cache import Result
    from sampan.build.entry import Entry
    from sampan.build.graph import Vertex
    from sampan.build.sandbox import Sandbox
    from sampan.build.session import Session

# How sources become compiled files: part of keys.
VERSION = 1
_MAX_BYTES = 1 << 30
_FROM_ROOT = 0xFFFFFFFF
_HEADER = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
# Of the standard library: what services do not import, or not at their start.
_RARE = (
    "_pyrepl", "_pydecimal.py", "_pyio.py", "_pydatetime.py", "curses", "dbm", "doctest.py", "lib2to3", "distutils",
    "mailbox.py", "pdb.py", "pickletools.py", "pydoc.py", "turtle.py", "xmlrpc", "ensurepip", "idlelib", "unittest",
    "wsgiref", "venv", "profile.py", "cProfile.py", "pstats.py", "trace.py", "tabnanny.py", "nntplib.py",
    "imaplib.py", "ftplib.py", "poplib.py", "telnetlib.py", "smtpd.py", "cgi.py", "cgitb.py", "aifc.py", "sunau.py",
    "wave.py", "chunk.py", "sndhdr.py", "imghdr.py", "plistlib.py", "xdrlib.py", "crypt.py", "optparse.py", "msilib",
    "asynchat.py", "asyncore.py", "antigravity.py", "this.py", "__phello__", "pyclbr.py", "modulefinder.py",
    "compileall.py", "py_compile.py", "zipapp.py", "webbrowser.py", "rlcompleter.py", "code.py", "codeop.py",
    "cmd.py", "sched.py", "fileinput.py", "filecmp.py", "netrc.py", "nturl2path.py", "pty.py", "tty.py",
    "sre_compile.py", "symtable.py",
)  # fmt: skip
_COMMON_CODECS = (
    "__init__", "aliases", "ascii", "cp1252", "cp437", "idna", "iso8859_1", "iso8859_15", "latin_1", "punycode",
    "raw_unicode_escape", "unicode_escape", "utf_16", "utf_16_be", "utf_16_le", "utf_32", "utf_8", "utf_8_sig",
    "base64_codec", "hex_codec", "undefined",
)  # fmt: skip
# Reads (length of path, length of source, path, source)*, where the length 0xFFFFFFFF means the file at that path;
# prints (length, compiled file)* in the same order, length 0 for what does not compile. Several processes share the
# work.
_PROGRAM = """
import os, struct, sys
from importlib._bootstrap_external import _code_to_hash_pyc
from importlib.util import source_hash

def compiled(path, source):
    try:
        if source is None:
            with open(path, "rb") as file:
                source = file.read()
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return b""
    return bytes(_code_to_hash_pyc(code, source_hash(source), False))

data, jobs, at = sys.stdin.buffer.read(), [], 0
while at < len(data):
    name, size = struct.unpack_from("<II", data, at)
    at += 8
    path = data[at:at + name].decode("utf-8", "surrogateescape")
    at += name
    jobs.append((path, None if size == 0xFFFFFFFF else data[at:at + size]))
    at += 0 if size == 0xFFFFFFFF else size
count = max(1, min(len(os.sched_getaffinity(0)), 8, len(jobs)))
found = [None] * len(jobs)
workers = []
for worker in range(count):
    fd = os.memfd_create("compiled")
    pid = os.fork()
    if pid == 0:
        with open(fd, "wb") as file:
            for path, source in jobs[worker::count]:
                result = compiled(path, source)
                file.write(struct.pack("<I", len(result)) + result)
        os._exit(0)
    workers.append((pid, fd))
for worker, (pid, fd) in enumerate(workers):
    if os.waitpid(pid, 0)[1] != 0:
        sys.exit("a worker failed")
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb") as file:
        for number in range(worker, len(jobs), count):
            size, = struct.unpack("<I", file.read(4))
            found[number] = file.read(size)
out = sys.stdout.buffer
for result in found:
    out.write(struct.pack("<I", len(result)) + result)
"""


def compiled(sandbox: "Sandbox", python: str, sources: "Sequence[Entry]") -> "list[Entry]":
    """Return a compiled file for each of `sources` (modules by their place in the image) that compiles."""
    jobs = [(f"/{item.path}", item.data) for item in sources]
    return list(_placed(python, [path for path, _ in jobs], _run(sandbox, python, jobs)))


def is_wanted(path: str) -> bool:
    """Tell whether a wheel's file at `path` in the image is a module that an application may import."""
    return path.endswith(".py") and "/dist-packages/" in path and not {"tests", "test"} & set(path.split("/"))


class Maker:
    """Makes the layer of the standard library's compiled files, on top of the base that they are made of."""

    def __init__(self, session: "Session", python: str) -> None:
        self._session = session
        self._python = python

    def make(self, work: "Sequence[tuple[Vertex, tuple[Result, ...]]]") -> "list[Result]":
        """Compile, and store the layer."""
        python = self._python
        sandbox = self._session.sandbox()
        paths = sorted(_modules(f"{self._session.base_directory()}/usr/lib/python{python}", f"/usr/lib/python{python}"))
        found = list(_placed(python, paths, _run(sandbox, python, [(path, None) for path in paths])))
        # Each directory once: docker refuses a layer that has a path twice (tar-split).
        found = [item for item in found if item.kind != entries.DIRECTORY]
        above = [entries.directory(path) for path in entries.parents([item.path for item in found])]
        record = {"files": len(found)}
        return [layer.write_entries(self._session.content, [*above, *found], record) for _ in work]


def _modules(directory: str, shown: str) -> "Iterator[str]":
    """Yield the standard library's modules that are worth a compiled file, by their paths in the image."""
    for top, _, names in os.walk(directory):
        relative = os.path.relpath(top, directory)
        for name in names:
            path = name if relative == "." else f"{relative}/{name}"
            head = path.partition("/")[0]
            is_codec = head == "encodings" and name.removesuffix(".py") not in _COMMON_CODECS
            if name.endswith(".py") and head not in _RARE and not is_codec:
                yield f"{shown}/{path}"


def _run(sandbox: "Sandbox", python: str, jobs: "Sequence[tuple[str, bytes | None]]") -> "list[bytes]":
    """Compile `jobs` (path in the image, source or None for the image's own file), one result each."""
    if not jobs:
        return []
    args = (f"/usr/bin/python{python}", "-S", "-s", "-W", "ignore", "-c", _PROGRAM)
    # A fixed seed: sets of constants are written in their order.
    env = ("PYTHONHASHSEED=0", "PYTHONDONTWRITEBYTECODE=1", "LANG=C.UTF-8")
    printed = sandbox.run(args, b"".join(_packed(jobs)), env=env, limit_bytes=_MAX_BYTES)
    return list(_parsed(printed, len(jobs)))


def _packed(jobs: "Iterable[tuple[str, bytes | None]]") -> "Iterator[bytes]":
    for path, source in jobs:
        name = path.encode(errors="surrogateescape")
        yield _HEADER.pack(len(name), _FROM_ROOT if source is None else len(source)) + name + (source or b"")


def _parsed(printed: bytes, count: int) -> "Iterator[bytes]":
    at = 0
    for _ in range(count):
        if at + _LENGTH.size > len(printed):
            raise Corrupt("the build container's answer is cut off")
        (size,) = _LENGTH.unpack_from(printed, at)
        at += _LENGTH.size
        yield printed[at : at + size]
        at += size
    if at != len(printed):
        raise Corrupt("the build container's answer is malformed")


def _placed(python: str, paths: "Sequence[str]", results: "Sequence[bytes]") -> "Iterator[Entry]":
    """Yield each result where the interpreter looks for it (PEP 3147), directories first where they are new."""
    tag = "cpython-" + python.replace(".", "")
    seen = set()
    for path, result in zip(paths, results, strict=True):
        if result:
            directory, _, name = path.lstrip("/").rpartition("/")
            if directory not in seen:
                seen.add(directory)
                yield entries.directory(f"{directory}/__pycache__")
            yield entries.file(f"{directory}/__pycache__/{name.removesuffix('.py')}.{tag}.pyc", result)
