"""`sampan system df`: how large the store is, and what of it could be had back."""

import time

from sampan.cli import format as formats
from sampan.cli.flags import Command, Flag, Parsed
from sampan.cli.listing import SHORT_ID
from sampan.engine import space
from sampan.oci.reference import Reference
from sampan.units import human_duration, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.document import Document
    from sampan.engine.space import Space, Total
    from sampan.settings.configuration import Settings

FIELDS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_IMAGES = ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS")
_CONTAINERS = ("CONTAINER ID", "IMAGE", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES")
_VOLUMES = ("VOLUME NAME", "LINKS", "SIZE")
_BUILDS = ("CACHE ID", "SIZE", "LAST USED", "SHARED")
_NONE = "<none>"


def df(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Show sizes."""
    form = formats.choose(parsed)
    found = space.Space(settings)
    rows = [document(total) for total in found.totals()]
    if form == formats.JSON:
        for row in rows:
            printer.json(row)
    elif form != formats.TABLE:
        formats.show(form, printer, FIELDS, [(row, {}) for row in rows])
    elif parsed.is_set("verbose"):
        _show_all(found, printer)
    else:
        printer.table(tuple(FIELDS.values()), [[row[name] for name in FIELDS] for row in rows])
    return 0


def document(total: "Total") -> "Document":
    """Return docker's `system df --format json` object."""
    has_share = total.size_bytes and total.type != "Build Cache"  # as docker
    share = f" ({100 * total.reclaimable_bytes // total.size_bytes}%)" if has_share else ""
    return {
        "Active": str(total.active),
        "Reclaimable": human_size(total.reclaimable_bytes) + share,
        "Size": human_size(total.size_bytes),
        "TotalCount": str(total.count),
        "Type": total.type,
    }


def _show_all(found: "Space", printer: "Printer") -> None:
    """Show every image, container, volume and build."""
    now = time.clock_gettime(time.CLOCK_REALTIME)
    images = []
    for one in found.images:
        for repository, tag in [_parts(name) for name in one.image.names] or [(_NONE, _NONE)]:
            sizes = (one.size_bytes, one.shared_bytes, one.size_bytes - one.shared_bytes)
            age = _age(now - one.image.created)
            short = one.image.id.removeprefix("sha256:")[:SHORT_ID]
            images.append((repository, tag, short, age, *map(human_size, sizes), str(one.containers)))
    containers = [
        (
            row["Id"][:SHORT_ID],
            row["Image"],
            str(sum(mount["Type"] == "volume" for mount in row["Mounts"])),
            human_size(size),
            _age(now - row["Created"]),
            row["Status"],
            ",".join(row["Names"]),
        )
        for row, size in found.containers
    ]
    volumes = [(row["Name"], str(row["Links"]), human_size(size)) for row, size in found.volumes]
    builds = [
        (
            build["key"][:SHORT_ID],
            human_size(build["size_bytes"]),
            _age(now - build["used"]),
            str(build["is_shared"]).lower(),
        )
        for build in found.builds
    ]
    for title, headers, rows in (
        ("Images", _IMAGES, images),
        ("Containers", _CONTAINERS, containers),
        ("Local Volumes", _VOLUMES, volumes),
    ):
        printer.out(f"{title} space usage:\n")
        printer.table(headers, rows)
        printer.out("")
    (total,) = (total for total in found.totals() if total.type == "Build Cache")
    printer.out(f"Build cache usage: {human_size(total.size_bytes)}\n")
    printer.table(_BUILDS, builds)


def _parts(name: str) -> tuple[str, str]:
    """Return repository and tag."""
    repository, _, tag = Reference.parse(name).familiar().rpartition(":")
    return (repository, tag) if repository and "/" not in tag else (name, _NONE)


def _age(seconds: float) -> str:
    return f"{human_duration(seconds)} ago"


COMMANDS = (
    Command(
        "system df",
        "[OPTIONS]",
        "Show how much images, containers, volumes and the build cache take, and what could be had back",
        execute=df,
        flags=(
            Flag("format", "string", formats.HELP),
            Flag("verbose", "bool", "every image, container, volume and build", short="v"),
        ),
        maximum=0,
        text=(
            "A layer counts once, however many images have it. Of an image both forms count, compressed as it came\n"
            "and unpacked as it is used."
        ),
        examples=("sampan system df", "sampan system df -v"),
    ),
)
