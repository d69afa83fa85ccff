"""One file, directory or link of a layer that is being made. Hot: every rebuild makes some."""

DIRECTORY, FILE, LINK = "directory", "file", "link"


class Entry:
    """What a tar entry says: `path` relative to the root, and by `kind` the `content` or the `target` of a link."""

    __slots__ = ("content", "gid", "kind", "mode", "mtime", "path", "target", "uid")

    def __init__(
        self,
        path: str,
        kind: str,
        *,
        mode: int = 0o644,
        content: bytes = b"",
        target: str = "",
        uid: int = 0,
        gid: int = 0,
        mtime: int = 0,
    ) -> None:
        self.path = path
        self.kind = kind
        self.mode = mode
        self.content = content
        self.target = target
        self.uid = uid
        self.gid = gid
        self.mtime = mtime


def directory(path: str, mode: int = 0o755, owner: int = 0) -> Entry:
    """Return a directory."""
    return Entry(path, DIRECTORY, mode=mode, uid=owner, gid=owner)


def file(path: str, content: bytes, mode: int = 0o644) -> Entry:
    """Return a regular file of root's."""
    return Entry(path, FILE, mode=mode, content=content)


def link(path: str, target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(path, LINK, mode=0o777, target=target)


def parents(paths: "list[str]") -> list[str]:
    """Return every directory above `paths`, sorted, the root itself not among them."""
    found = set()
    for path in paths:
        above = path.rpartition("/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return sorted(found)


# 2000-01-01: zip files can hold no time before 1980.
_FIRST_SECOND = 946_684_800
_SPAN_SECONDS = 1 << 28


def stamped(path: str, content: bytes, digest: str, mode: int = 0o644) -> Entry:
    """Return a regular file whose time follows from the hash of its content.

    Servers make ETags of a file's time and size. With one fixed time for all, a changed file of equal size would keep
    its ETag, and browsers the old file; with the real time, the same content would not give the same layer.
    """
    return Entry(path, FILE, mode=mode, content=content, mtime=stamp(digest))


def stamp(digest: str) -> int:
    """Return a time between 2000 and 2008 that follows from the hexadecimal `digest`."""
    return _FIRST_SECOND + int(digest[:16], 16) % _SPAN_SECONDS
