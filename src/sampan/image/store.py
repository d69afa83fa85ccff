"""Which images are here, and what they are called. Looking one up is on the hot path and reads two rows, no blob.

An image is its config: its id is the config's digest. `add` verifies that every blob is here inside the transaction
that records it, and blobs leave only inside one (see `removal`), so a record never names a blob that is gone.
"""

import os

from sampan import document, journal
from sampan.database.connection import IntegrityError
from sampan.errors import Conflict, Corrupt, InvalidArgument, NotFound
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.database.connection import Database
    from sampan.document import Document
    from sampan.image.content import Content
    from sampan.oci.image import Config, Manifest

_HEX = frozenset("0123456789abcdef")


class Image:
    """One image as recorded. Lists go from the lowest layer on."""

    __slots__ = (
        "_config",
        "chain_ids",
        "config_text",
        "created",
        "diff_ids",
        "id",
        "layers",
        "manifest",
        "names",
        "size_bytes",
    )

    def __init__(
        self,
        id: str,
        *,
        manifest: Digest,
        config_text: str,
        created: int,
        layers: tuple[Digest, ...],
        diff_ids: tuple[str, ...],
        chain_ids: tuple[str, ...],
        size_bytes: int,
        names: tuple[str, ...],
    ) -> None:
        self.id = id  # sha256:HEX
        self.manifest = manifest
        self.config_text = config_text
        self.created = created  # seconds since the epoch
        self.layers = layers  # digests of the blobs
        self.diff_ids = diff_ids
        self.chain_ids = chain_ids
        self.size_bytes = size_bytes  # unpacked where it is unpacked, else compressed
        self.names = names  # canonical references
        self._config: Document | None = None

    @property
    def config(self) -> "Document":
        """The config, whole (image-spec config.md): `config.get("config")` is what to run."""
        if self._config is None:
            self._config = document.parse(self.config_text)
        return self._config

    @property
    def labels(self) -> dict[str, str]:
        """The config's labels."""
        return (self.config.get("config") or {}).get("Labels") or {}


class Images:
    """The images in one database."""

    __slots__ = ("_database",)

    def __init__(self, database: "Database") -> None:
        self._database = database

    def find(self, text: str) -> Image:
        """Return the image that `text`, a reference, an id or the beginning of one, names.

        A name goes before an id, as with docker. Raises NotFound, and Conflict where several ids begin like that.
        """
        return self._image(self.identify(text)[0])

    def identify(self, text: str) -> tuple[str, str | None]:
        """Return the id that `text` names, and the canonical reference if it was named by one.

        Raises as `find` does.
        """
        reference = _reference(text)
        if reference is not None:
            named = self._by_reference(reference)
            if named is not None:
                return named
        ids = self._by_prefix(text)
        if len(ids) == 1:
            return ids[0], None
        if ids:
            raise Conflict(f"several image ids begin with `{text}`", hints=("give more of its digits",))
        raise NotFound(f"image `{text[:160]}` is not here", hints=self._near(text))

    def list(self) -> "tuple[Image, ...]":
        """Return every image, the newest first."""
        ids = [row[0] for row in self._database.execute("SELECT id FROM images ORDER BY created DESC, id")]
        return tuple(self._image(id) for id in ids)

    def add(self, config: bytes, manifest: bytes, content: "Content", reference: Reference | None = None) -> Image:
        """Record an image whose layers are in `content`, store config and manifest there, and name it.

        Idempotent, atomic, durable. Another image that had the name loses it. Raises Corrupt where config and manifest
        do not belong together or a blob is missing.
        """
        from sampan.oci.image import parse_config, parse_manifest

        parsed_manifest, parsed_config = parse_manifest(manifest), parse_config(config)
        parsed_manifest.config.digest.verify(config, "the image's config")
        if len(parsed_manifest.layers) != len(parsed_config.diff_ids):
            raise Corrupt("the image's manifest and config have different numbers of layers")
        content.put(config)
        digest, _ = content.put(manifest)
        id = str(parsed_manifest.config.digest)
        with self._database.transaction():
            _require(content, (parsed_manifest.config.digest, digest))
            _require(content, (layer.digest for layer in parsed_manifest.layers))
            self._record(id, digest, parsed_manifest, parsed_config)
            if reference is not None:
                self.name(id, reference)
        return self._image(id)

    def tag(self, id: str, reference: Reference) -> None:
        """Do what `name` does, and tell the journal."""
        self.name(id, reference)
        self.note("tag", id, reference.familiar())

    def name(self, id: str, reference: Reference) -> None:
        """Give the image `id` one more name, taking it from another image; raises NotFound for the id."""
        try:
            self._database.execute(
                "INSERT INTO names(reference, image_id) VALUES(?, ?) "
                "ON CONFLICT(reference) DO UPDATE SET image_id = excluded.image_id",
                (str(reference), id),
            )
        except IntegrityError as error:
            raise NotFound(f"image `{id}` is not here") from error

    def note(self, action: str, id: str, name: str, *, actor: str = "") -> None:
        """Tell the journal what happened to the image `id`, in docker's words; `actor` where docker names it otherwise.

        What was deleted has no labels any more.
        """
        row = self._database.row("SELECT config FROM images WHERE id = ?", (id,))
        config = document.parse(row[0]).get("config") if row else None
        labels = (config or {}).get("Labels") or {}
        journal.note(self._database.root, action, actor or id, labels | {"name": name}, journal.IMAGE)

    def untag(self, reference: Reference) -> None:
        """Take a name away; the image stays. Raises NotFound."""
        with self._database.transaction() as database:
            if not database.row("DELETE FROM names WHERE reference = ? RETURNING 1", (str(reference),)):
                raise NotFound(f"image `{reference.familiar()}` is not here", hints=self._near(reference.familiar()))

    def _by_reference(self, reference: Reference) -> tuple[str, str] | None:
        text = str(reference)
        row = self._database.row("SELECT image_id, reference FROM names WHERE reference = ?", (text,))
        if row is None and reference.digest is not None:
            # A name that carries the manifest's digest also means the tag that has this manifest now.
            prefix = reference.name() + ":"
            row = self._database.row(
                "SELECT image_id, reference FROM names JOIN images ON id = image_id "
                "WHERE manifest = ? AND substr(reference, 1, ?) = ?",
                (str(reference.digest), len(prefix), prefix),
            )
        return (row[0], row[1]) if row else None

    def _by_prefix(self, text: str) -> "tuple[str, ...]":
        digits = text.removeprefix("sha256:")
        if not digits or not _HEX.issuperset(digits):
            return ()
        # `g` follows the last hexadecimal digit: the range is all ids that begin so, found by the index.
        between = (f"sha256:{digits}", f"sha256:{digits}g")
        rows = self._database.execute("SELECT id FROM images WHERE id >= ? AND id < ? LIMIT 2", between)
        return tuple(row[0] for row in rows)

    def _near(self, text: str) -> tuple[str, ...]:
        """Suggest the name that was perhaps meant."""
        # 3 ms, paid only by who mistyped.
        import difflib

        names = [Reference.parse(row[0]).familiar() for row in self._database.execute("SELECT reference FROM names")]
        short = {name.removesuffix(":latest"): name for name in names}
        near = difflib.get_close_matches(text, short, 1)
        return (f"did you mean `{near[0]}`?",) if near else ("`sampan images` lists what is here",)

    def _image(self, id: str) -> Image:
        row = self._database.row("SELECT id, manifest, config, created FROM images WHERE id = ?", (id,))
        if row is None:
            raise NotFound(f"image `{id}` is not here")
        # The snapshot's size where there is one: what it takes on this disk, as docker shows it.
        layers = list(
            self._database.execute(
                "SELECT digest, diff_id, chain_id, coalesce((SELECT max(s.size_bytes) FROM snapshots s "
                "WHERE s.chain_id = layers.chain_id AND ready), size_bytes) "
                "FROM layers WHERE image_id = ? ORDER BY position",
                (id,),
            )
        )
        names = self._database.execute("SELECT reference FROM names WHERE image_id = ? ORDER BY reference", (id,))
        return Image(
            row[0],
            manifest=Digest.parse(row[1]),
            config_text=row[2],
            created=row[3],
            layers=tuple(Digest.parse(layer[0]) for layer in layers),
            diff_ids=tuple(layer[1] for layer in layers),
            chain_ids=tuple(layer[2] for layer in layers),
            size_bytes=sum(layer[3] for layer in layers),
            names=tuple(name[0] for name in names),
        )

    def _record(self, id: str, digest: Digest, manifest: "Manifest", config: "Config") -> None:
        from sampan.oci.digest import chain_ids

        text, created = document.render(config.document), created_seconds(config.document)
        # The manifest that was added last counts: a pull by digest must then be found by that digest.
        self._database.execute(
            "INSERT INTO images(id, manifest, config, created) VALUES(?, ?, ?, ?) "
            "ON CONFLICT(id) DO UPDATE SET manifest = excluded.manifest",
            (id, str(digest), text, created),
        )
        self._database.execute("DELETE FROM layers WHERE image_id = ?", (id,))
        chain = chain_ids(config.diff_ids)
        for position, layer in enumerate(manifest.layers):
            self._database.execute(
                "INSERT INTO layers(image_id, position, digest, diff_id, chain_id, media_type, size_bytes) "
                "VALUES(?, ?, ?, ?, ?, ?, ?)",
                (
                    id,
                    position,
                    str(layer.digest),
                    str(config.diff_ids[position]),
                    str(chain[position]),
                    layer.media_type,
                    layer.size_bytes,
                ),
            )


def created_seconds(config: "Document") -> int:
    """Return when the image says that it was made; 0 where it says nothing that can be read."""
    from datetime import UTC, datetime

    text = config.get("created")
    if not isinstance(text, str):
        return 0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0
    return max(0, int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))


def _reference(text: str) -> Reference | None:
    """Read `text` as a reference; None where it can only be an id."""
    try:
        return Reference.parse(text)
    except InvalidArgument:
        if _HEX.issuperset(text.removeprefix("sha256:")):
            return None
        raise


def _require(content: "Content", digests: "Iterable[Digest]") -> None:
    for digest in digests:
        if not os.path.exists(content.path(digest)):
            raise Corrupt(f"the image's blob `{digest}` is not in the store", hints=("add the image again",))
