"""What a RUN depended on of the files that COPY took from the context, so that it need not run again for the others.

Theory of operation. A step sees each layer that came from the context through a `kernel.fuse.Mirror`, which notes what
was asked for; nobody in the step can learn anything of such a layer in another way. `facts` writes down what the
answers were: for each path that was looked at whether it is there, with which attributes, and where it was read or
listed, a digest of the content or the names. When the same command is to run on the same layers but for those of the
context, and every fact of an earlier run `holds` in the layers of now, the step would see what it saw then, ask the
same questions, and come to the same layer. So that layer is taken.

    a RUN's key           all of what is below it, file by file           solver, as everybody has it
    a RUN's trace key     the same without the layers of the context      `key`
    its facts             what it saw of those layers                     `Facts`, by layer

A directory's own time, size and count of links are no facts: an editor that saves a file changes them, and COPY's own
key does not hold any times. A file's time is one, since a compiled `.pyc` has it inside. What is beside the files (the
network, the clock) is as with every build cache: `--no-cache` runs everything again, and is what later builds go by.
"""

import os
import stat

from sampan.document import render
from sampan.oci.digest import Digest, new_hasher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sampan.build.cache import Result
    from sampan.build.graph import Vertex

    # Path -> (what it is, the digest of its content or "", the digest of its names or "").
    Facts = dict[str, list[str]]

# The setting `build.cache` that wants traces.
SETTING = "trace"
# Part of every key: a change in what is a fact changes it.
VERSION = 1
# Larger layers are shown as they are, and a step that asked for more depends on all.
MAX_ENTRIES = 20_000
MAX_FACTS = 4_000
_READ_BYTES = 1 << 20
_COPY = "copy"


def layers(vertex: "Vertex", results: "Sequence[Result]") -> list[int]:
    """Return which of the results below a RUN are layers of the context that can be traced, by position."""
    below = zip(vertex.inputs[: vertex.options["below"]], results, strict=False)
    return [number for number, (item, result) in enumerate(below) if _is_traced(item, result)]


def _is_traced(item: "Vertex", result: "Result") -> bool:
    """Tell whether a layer is the context's. An archive that ADD unpacks is not: it may bring what FUSE cannot show."""
    is_context = item.kind == _COPY and item.options["is_context"] and not item.options["unpacks"]
    is_small = 0 < result.record.get("entries", 0) <= MAX_ENTRIES
    return is_context and is_small and not result.record.get("empty")


def key(vertex: "Vertex", results: "Sequence[Result]", traced: "Sequence[int]") -> Digest:
    """Return the trace key of a RUN: what it does, and what it stands on but for the layers at `traced`."""
    inputs = ["" if number in traced else str(result.diff_id) for number, result in enumerate(results)]
    return Digest.of(render({"version": VERSION, "options": vertex.options, "inputs": inputs}).encode())


def facts(
    directory: str, seen: "Iterable[str]", read: "Iterable[str]", listed: "Iterable[str]", *, shift: int = 0
) -> "Facts | None":
    """Return what is true in a layer's directory of the paths that were asked for; None where they are too many.

    In `seen` each path stands after the directories it is in. The ids on disk are moved by `shift`.
    """
    found: Facts = {}
    contents, names = set(read), set(listed)
    for path in seen:
        if len(found) == MAX_FACTS:
            return None
        found[path] = _fact(directory, path, shift, is_read=path in contents, is_listed=path in names)
    return found


def change(directory: str, told: "Mapping[str, Sequence[str]]") -> str | None:
    """Return the first path for which what was `told` does not hold in a layer's directory; None where all holds.

    Directories come before what is in them, so no link of the layer leads out of it: what is a link now and was a
    directory ends the search.
    """
    for path, before in told.items():
        now = _fact(directory, path, 0, is_read=bool(before[1]), is_listed=bool(before[2]))
        if now != list(before):
            return path
    return None


def _fact(directory: str, path: str, shift: int, *, is_read: bool, is_listed: bool) -> list[str]:
    place = f"{directory}/{path}"
    try:
        status = os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        return ["absent", "", ""]
    kind = stat.S_IFMT(status.st_mode)
    content = _content(place) if is_read and kind == stat.S_IFREG else ""
    names = _names(place) if is_listed and kind == stat.S_IFDIR else ""
    return [_attributes(place, status, kind, shift), content, names]


def _attributes(place: str, status: os.stat_result, kind: int, shift: int) -> str:
    words = [f"{status.st_mode:o}", str(status.st_uid - shift), str(status.st_gid - shift)]
    if kind == stat.S_IFLNK:
        words.append(os.readlink(place))
    elif kind != stat.S_IFDIR:
        words += [str(status.st_size), str(status.st_nlink), str(status.st_rdev)]
    if kind != stat.S_IFDIR:
        words.append(str(status.st_mtime_ns))
    for name in sorted(os.listxattr(place, follow_symlinks=False)):
        words.append(f"{name}={os.getxattr(place, name, follow_symlinks=False).hex()}")
    return " ".join(words)


def _content(place: str) -> str:
    hasher = new_hasher()
    with open(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
        while piece := file.read(_READ_BYTES):
            hasher.update(piece)
    return hasher.hexdigest()


def _names(place: str) -> str:
    found = sorted(f"{entry.name}\0{stat.S_IFMT(_mode(entry))}" for entry in os.scandir(place))
    return Digest.of("\n".join(found).encode("utf-8", "surrogateescape")).hex


def _mode(entry: "os.DirEntry[str]") -> int:
    return entry.stat(follow_symlinks=False).st_mode
