"""What builds have made: layers, by the table `builds`, and fragments, files of the cache directory. Hot.

A fragment is a piece of a layer: gzip members of a tar without its end, so that layers are made by putting fragments
one after the other. It is kept in `cache/fragments/KEY`, its record beside it, both written whole and renamed; it may
be deleted at any time. A layer is a blob; its row in `builds` keeps it from being pruned.
"""

import os
import time

from sampan.document import Malformed, parse, render
from sampan.image.content import VerifiedFile
from sampan.oci import image as oci
from sampan.oci.digest import Digest, new_hasher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from sampan.database.connection import Database, Transaction
    from sampan.document import Document
    from sampan.image.content import Content
    from sampan.storage.diff import Writable

# Of one command on one base; each branch of a repository may have its own.
_MAX_CANDIDATES = 8


class Result:
    """What a vertex came to: a layer (`digest` of its blob, `diff_id`), or a fragment (`digest` of the cached file).

    `size_bytes` is as it is stored; `record` says more, as its executor likes (`unpacked`, `files`).
    """

    __slots__ = ("diff_id", "digest", "record", "size_bytes")

    def __init__(self, digest: Digest, diff_id: Digest | None, size_bytes: int, record: "Document") -> None:
        self.digest = digest
        self.diff_id = diff_id
        self.size_bytes = size_bytes
        self.record = record

    def descriptor(self) -> oci.Descriptor:
        """Return how a manifest names the layer: as it is stored, a plain tar or compressed."""
        media_type = oci.OCI_LAYER if self.digest == self.diff_id else oci.OCI_LAYER_GZIP
        return oci.Descriptor(media_type, self.digest, self.size_bytes)


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

    def at_once(self) -> "Transaction":
        """Return a context in which any number of `find` cost one sync of the disk."""
        return self._database.transaction()

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

    def store_trace(self, key: Digest, trace_key: Digest, facts: "list[Document]") -> None:
        """Record beside the result of `key`, before or after it, how else it can be found; see `trace`."""
        self._database.execute(
            "INSERT OR REPLACE INTO traces(key, trace_key, facts, used) VALUES(?, ?, ?, ?)",
            (key.hex, trace_key.hex, render({"facts": facts}), time.time_ns()),
        )

    def traced(self, trace_key: Digest) -> "Iterator[tuple[Digest, list[Document]]]":
        """Yield the keys of the results that may be taken where their facts hold, the newest first."""
        rows = self._database.execute(
            "SELECT key, facts FROM traces WHERE trace_key = ? ORDER BY used DESC LIMIT ?",
            (trace_key.hex, _MAX_CANDIDATES),
        )
        for key, facts in list(rows):
            yield Digest("sha256", key), parse(facts)["facts"]

    def forget_trace(self, key: Digest) -> None:
        """Forget by what else the result of `key` could be found."""
        self._database.execute("DELETE FROM traces WHERE key = ?", (key.hex,))

    def touch_trace(self, key: Digest) -> None:
        """Note that a traced result was taken again: it is the newest now."""
        self._database.execute("UPDATE traces SET used = ? WHERE key = ?", (time.time_ns(), key.hex))

    def put_fragment(self, key: Digest, fill: "Callable[[Writable], Document]") -> Result:
        """Keep under `key` what `fill` writes; the record, which it returns, is written last."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        with _Replacing(self.fragment_path(key)) as file:
            record = fill(file)
        digest = file.digest()
        kept = {**record, "version": 1, "digest": str(digest), "size": file.size_bytes, "key": key.hex}
        with _Replacing(f"{self.fragment_path(key)}.json") as file:
            file.write(render(kept).encode())
        return Result(digest, None, kept["size"], kept)

    def fragment_path(self, key: Digest) -> str:
        """Return where the fragment of `key` lies."""
        return f"{self._directory}/{key.hex}"

    def open_fragment(self, result: Result) -> VerifiedFile:
        """Open a fragment; its last read raises Corrupt where it is not what was recorded. Raises FileNotFoundError."""
        path = f"{self._directory}/{result.record['key']}"
        return VerifiedFile(open(path, "rb", buffering=0), result.digest)

    def _fragment(self, key: Digest) -> Result | None:
        try:
            with open(f"{self.fragment_path(key)}.json", encoding="utf-8") as file:
                record = parse(file.read())
            if record["version"] != 1 or os.stat(self.fragment_path(key)).st_size != record["size"]:
                return None
            return Result(Digest.parse(record["digest"]), None, record["size"], record)
        except (FileNotFoundError, Malformed, KeyError, ValueError):
            return None


class _Replacing:
    """A file beside `path`, hashed on the way, that is synced and takes its place when the block ends without an error.

    Synced, since a record must not outlive its fragment in a power cut.
    """

    __slots__ = ("_file", "_hasher", "_path", "_temporary", "size_bytes")

    def __init__(self, path: str) -> None:
        self._path = path
        self._temporary = f"{path}.{os.getpid()}"
        self._hasher = new_hasher()
        self._file = open(self._temporary, "wb")  # noqa: SIM115 -- closed in __exit__
        self.size_bytes = 0

    def write(self, data: bytes, /) -> None:
        """Take all of `data`."""
        self._file.write(data)
        self._hasher.update(data)
        self.size_bytes += len(data)

    def digest(self) -> Digest:
        """Return the digest of what was written."""
        return Digest("sha256", self._hasher.hexdigest())

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, kind: "type[BaseException] | None", *exception: object) -> None:
        try:
            with self._file:
                if kind is None:
                    self._file.flush()
                    os.fsync(self._file.fileno())
                    os.replace(self._temporary, self._path)
        finally:
            if os.path.exists(self._temporary):
                os.unlink(self._temporary)
