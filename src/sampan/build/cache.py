"""What builds have made: layers, by the table `builds`, and fragments, files of the cache directory. Hot.

A fragment is a piece of a layer: gzip members of a tar without its end, so that layers are made by putting fragments
one after the other. It is kept in `cache/fragments/KEY`, its record beside it, both written whole and renamed; it may
be deleted at any time. A layer is a blob; its row in `builds` keeps it from being pruned.
"""

import os

from sampan.document import Malformed, parse, render
from sampan.oci.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.database.connection import Database
    from sampan.document import Document
    from sampan.image.content import Content

FRAGMENT = "fragment"


class Result:
    """What a vertex came to: a layer (`digest` of its blob, `diff_id`), or a fragment (`digest` of the cached file).

    `size_bytes` is compressed; `record` says more, as its executor likes (`unpacked`, `files`).
    """

    __slots__ = ("diff_id", "digest", "record", "size_bytes")

    def __init__(self, digest: Digest, diff_id: Digest | None, size_bytes: int, record: "Document") -> None:
        self.digest = digest
        self.diff_id = diff_id
        self.size_bytes = size_bytes
        self.record = record

    def is_fragment(self) -> bool:
        """Tell whether this is a piece of a layer only."""
        return self.diff_id is None


class Cache:
    """The results of one SAMPAN_ROOT."""

    __slots__ = ("_clock", "_content", "_database", "_directory")

    def __init__(self, database: "Database", content: "Content", clock: "Callable[[], float]") -> None:
        self._database = database
        self._content = content
        self._clock = clock
        self._directory = f"{content.root}/cache/fragments"

    def find(self, key: Digest) -> Result | None:
        """Return the result that was stored for `key` and is still here."""
        row = self._database.row("SELECT layer, diff_id, size_bytes, record FROM builds WHERE key = ?", (key.hex,))
        if row is not None:
            layer = Digest.parse(row[0])
            # `has` holds the blob by the build's lease before it looks.
            return Result(layer, Digest.parse(row[1]), row[2], parse(row[3])) if self._content.has(layer) else None
        return self._fragment(key)

    def store(self, key: Digest, result: Result) -> None:
        """Record a result; idempotent. Fragments are recorded by `put_fragment` already."""
        if result.diff_id is None:
            return
        self._database.execute(
            "INSERT OR REPLACE INTO builds(key, layer, diff_id, size_bytes, record, used) VALUES(?, ?, ?, ?, ?, ?)",
            (
                key.hex,
                str(result.digest),
                str(result.diff_id),
                result.size_bytes,
                render(result.record),
                int(self._clock()),
            ),
        )

    def put_fragment(self, key: Digest, packed: bytes, record: "Document") -> Result:
        """Keep a fragment under `key`; the record is written last."""
        digest = Digest.of(packed)
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        _replace(self.fragment_path(key), packed)
        kept = {**record, "version": 1, "digest": str(digest), "size": len(packed), "key": key.hex}
        _replace(f"{self.fragment_path(key)}.json", render(kept).encode())
        return Result(digest, None, len(packed), kept)

    def fragment_path(self, key: Digest) -> str:
        """Return where the fragment of `key` lies."""
        return f"{self._directory}/{key.hex}"

    def read_fragment(self, result: Result) -> bytes:
        """Return the bytes of a fragment; raises Corrupt where they are not what was recorded, FileNotFoundError."""
        with open(f"{self._directory}/{result.record['key']}", "rb") as file:
            packed = file.read()
        result.digest.verify(packed, "a cached piece of a layer")
        return packed

    def _fragment(self, key: Digest) -> Result | None:
        try:
            with open(f"{self.fragment_path(key)}.json", encoding="ascii") as file:
                record = parse(file.read())
            if record["version"] != 1 or os.stat(self.fragment_path(key)).st_size != record["size"]:
                return None
            return Result(Digest.parse(record["digest"]), None, record["size"], record)
        except (FileNotFoundError, Malformed, KeyError, ValueError):
            return None


def _replace(path: str, content: bytes) -> None:
    """Write a file whole. Synced: a record must not outlive its fragment in a power cut."""
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
