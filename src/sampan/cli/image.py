"""`sampan images`, `tag` and `rmi`, and an image as docker's inspect shows it."""

import time

from sampan.cli import format as formats
from sampan.cli import resource
from sampan.cli.container import each
from sampan.cli.flags import Command, Flag, Parsed
from sampan.database import connection
from sampan.errors import InvalidArgument
from sampan.image.store import Images
from sampan.oci.reference import Reference
from sampan.units import human_duration, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.cli.render import Printer
    from sampan.document import Document
    from sampan.image.store import Image
    from sampan.settings.configuration import Settings

NONE = "<none>"
# What docker says of what it has not counted.
UNKNOWN = "N/A"
SHORT_ID = 12
FILTERS = ("dangling", "label", "reference")
# The fields of a row and what a table calls them, as docker does.
FIELDS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "VirtualSize": "SIZE",
    "Containers": "CONTAINERS",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}


def images(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Show the images, one row for each name."""
    form = formats.choose_preferred(parsed, settings, "imagesFormat")
    filters = resource.filters(parsed, FILTERS)
    filters += [("reference", argument) for argument in parsed.arguments]
    with connection.open(settings) as database:
        found = Images(database).list()
        used = {id: str(n) for id, n in database.execute("SELECT image_id, count(*) FROM containers GROUP BY image_id")}
    rows = [(name, image) for image in found for name in _names(image) if _passes(name, image, filters)]
    whole = parsed.is_set("no-trunc")
    if form == formats.JSON:
        for name, image in rows:
            printer.json(_document(name, image, used, whole=whole))
    elif form != formats.TABLE:
        formats.show(form, printer, FIELDS, [(_document(name, image, used, whole=whole), {}) for name, image in rows])
    elif parsed.is_set("quiet"):
        for _, image in rows:
            printer.out(_id(image, whole=whole))
    else:
        digests = parsed.is_set("digests")
        headers = ("REPOSITORY", "TAG", *(("DIGEST",) if digests else ()), "IMAGE ID", "CREATED", "SIZE")
        printer.table(headers, [_cells(name, image, whole=whole, digests=digests) for name, image in rows])
    return 0


def tag(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:  # noqa: ARG001  every command's shape
    """Give an image one more name."""
    source, target = parsed.arguments
    reference = parse_name(target)
    with connection.open(settings) as database:
        store = Images(database)
        store.tag(store.find(source).id, reference)
    return 0


def parse_name(text: str) -> Reference:
    """Read the name that an image is to get: a digest cannot be given. Raises InvalidArgument."""
    reference = Reference.parse(text)
    if reference.digest is not None:
        raise InvalidArgument(f"`{text}` has a digest, which cannot be given to an image", hints=("leave `@…` out",))
    return reference


def remove(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Take names away, and delete what has none left."""
    from sampan.engine import sweep
    from sampan.image import removal

    force = parsed.is_set("force")
    with connection.open(settings) as database:
        # A container that `run --rm` has shown the end of must not hold its image any more.
        sweep.settle(database, settings)

        def act(name: str) -> str:
            done = removal.remove(database, name, force=force)
            lines = [f"Untagged: {reference}" for reference in done.untagged]
            return "\n".join([*lines, *(f"Deleted: {digest}" for digest in done.deleted)])

        return each(parsed.arguments, printer, act, is_missing_fine=force)


def inspect(settings: "Settings", name: str) -> "Document":
    """Return docker's inspect document of an image; raises NotFound."""
    with connection.open(settings) as database:
        image = Images(database).find(name)
    config = image.config
    references = [Reference.parse(text) for text in image.names]
    return {
        "Id": image.id,
        "RepoTags": [reference.familiar() for reference in references if reference.tag],
        "RepoDigests": sorted({f"{reference.familiar_name()}@{image.manifest}" for reference in references}),
        "Parent": "",
        "Comment": next((str(h.get("comment", "")) for h in reversed(config.get("history") or [])), ""),
        "Created": config.get("created", ""),
        "Author": config.get("author", ""),
        "Config": config.get("config") or {},
        "Architecture": config.get("architecture", ""),
        "Os": config.get("os", ""),
        "Size": image.size_bytes,
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
        "Descriptor": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": str(image.manifest)},
    }


def _names(image: "Image") -> list[Reference | None]:
    """Return the names that an image is listed under: one row without a name where it has none."""
    return [Reference.parse(name) for name in image.names] or [None]


def _passes(name: Reference | None, image: "Image", filters: list[tuple[str, str]]) -> bool:
    """Return whether a row is wanted: any value of a key suffices, every key must."""
    keys = {key for key, _ in filters}
    return all(any(_matches(name, image, key, value) for k, value in filters if k == key) for key in keys)


def _matches(name: Reference | None, image: "Image", key: str, value: str) -> bool:
    if key == "dangling":
        return (name is None) == (value in {"1", "true"})
    if key == "label":
        labels = (image.config.get("config") or {}).get("Labels") or {}
        label, equals, wanted = value.partition("=")
        return label in labels and (not equals or labels[label] == wanted)
    if name is None:
        return False
    from fnmatch import fnmatchcase

    return any(fnmatchcase(text, value) for text in (name.familiar(), name.familiar_name(), str(name)))


def _id(image: "Image", *, whole: bool) -> str:
    return image.id if whole else image.id.removeprefix("sha256:")[:SHORT_ID]


def _age(image: "Image") -> str:
    """Say how old an image is; a reproducible build has no time of its own."""
    if image.created <= 0:
        return "N/A"
    return human_duration(time.clock_gettime(time.CLOCK_REALTIME) - image.created) + " ago"


def _cells(name: Reference | None, image: "Image", *, whole: bool, digests: bool) -> tuple[str, ...]:
    """Return one line of the table."""
    return (
        name.familiar_name() if name else NONE,
        (name.tag or NONE) if name else NONE,
        *((str(image.manifest),) if digests else ()),
        _id(image, whole=whole),
        _age(image),
        human_size(image.size_bytes),
    )


def _document(name: Reference | None, image: "Image", used: "Mapping[str, str]", *, whole: bool) -> "Document":
    """Return docker's `images --format json` object; `used` are the numbers of containers by the image's id."""
    return {
        "ID": _id(image, whole=whole),
        "Repository": name.familiar_name() if name else NONE,
        "Tag": (name.tag or NONE) if name else NONE,
        "Digest": str(image.manifest),
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(image.created)),
        "CreatedSince": _age(image),
        "Size": human_size(image.size_bytes),
        "VirtualSize": human_size(image.size_bytes),
        "Containers": used.get(image.id, "0"),
        "SharedSize": UNKNOWN,
        "UniqueSize": UNKNOWN,
    }


COMMANDS = (
    Command(
        "images",
        "[OPTIONS] [REPOSITORY[:TAG]]",
        "List images",
        execute=images,
        flags=(
            Flag("all", "bool", "taken for docker's sake: there are no hidden images", short="a"),
            Flag("digests", "bool", "show the manifests' digests"),
            Flag("filter", "filter", f"only those with `key=value`: {', '.join(FILTERS)}", short="f"),
            Flag("format", "string", formats.HELP),
            Flag("no-trunc", "bool", "cut nothing short"),
            Flag("quiet", "bool", "ids only", short="q"),
        ),
        maximum=1,
        later="tree",
        examples=(
            "sampan images",
            "sampan images -q --filter dangling=true",
            "sampan images --format '{{.Repository}}:{{.Tag}} {{.Size}}' hello",
        ),
    ),
    Command(
        "tag",
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Give an image one more name",
        execute=tag,
        minimum=2,
        maximum=2,
        examples=("sampan tag hello hello:1.0",),
    ),
    Command(
        "rmi",
        "[OPTIONS] IMAGE [IMAGE...]",
        "Take names from images, and remove those that have none left",
        execute=remove,
        flags=(
            Flag("force", "bool", "also where several names or stopped containers use it", short="f"),
            Flag("no-prune", "bool", "taken for docker's sake"),
        ),
        minimum=1,
        later="platform",
        examples=("sampan rmi hello:1.0", "sampan rmi -f hello"),
    ),
)
