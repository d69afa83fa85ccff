"""`sampan volume create`, `ls`, `inspect`, `rm`, `prune`: data that outlives containers."""

from sampan.cli import format as formats
from sampan.cli import resource
from sampan.cli.container import each
from sampan.cli.flags import Command, Flag, Parsed
from sampan.engine import label, volume, words
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.document import Document
    from sampan.settings.configuration import Settings

HEADERS = ("DRIVER", "VOLUME NAME")
# What docker says of what it has not counted, and of what clusters have.
UNKNOWN = "N/A"
# The fields of a row and what a table calls them, as docker does.
FIELDS = {
    "Name": "VOLUME NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Status": "STATUS",
    "Group": "GROUP",
    "Availability": "AVAILABILITY",
}
FILTERS = ("dangling", "driver", "label", "name")


def create(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Make a volume and print its name."""
    name = parsed.arguments[0] if parsed.arguments else ""
    if "name" in parsed.values:
        if name:
            raise InvalidArgument("the volume has two names", hints=("leave `--name` out",))
        name = parsed.text("name")
    labels = dict(parsed.convert_all("label", words.parse_pair))
    options = dict(parsed.convert_all("opt", words.parse_pair))
    driver = parsed.text("driver", volume.LOCAL)
    printer.out(volume.create(settings, name, driver=driver, labels=labels, options=options))
    return 0


def ls(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Show volumes."""
    form = formats.choose(parsed)
    pairs = resource.filters(parsed, FILTERS)
    rows = [row for row in volume.every(settings) if _passes(row, pairs)]
    if form == formats.JSON:
        for row in rows:
            printer.json(_line(row))
    elif form != formats.TABLE:
        formats.show(form, printer, FIELDS, [(_line(row), row["Labels"]) for row in rows])
    elif parsed.is_set("quiet"):
        for row in rows:
            printer.out(row["Name"])
    else:
        printer.table(HEADERS, [(row["Driver"], row["Name"]) for row in rows])
    return 0


def inspect(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Print an array of what was found; go on after an error."""
    return resource.inspect(parsed, printer, lambda name: volume.inspect(settings, name))


def remove(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Remove volumes."""
    force = parsed.is_set("force")
    return each(parsed.arguments, printer, lambda name: volume.remove(settings, name, force=force))


def prune(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Remove volumes that no container has."""
    pairs = resource.filters(parsed, ("label",))
    everything = parsed.is_set("all")
    which = "every volume" if everything else "every anonymous volume"
    if not resource.is_sure(parsed, printer, f"this removes {which} that no container has"):
        return 1
    chosen = label.Selection(wanted=[word for _, word in pairs])
    for name in volume.prune(settings, everything=everything, chosen=chosen):
        printer.out(name)
    return 0


def _passes(row: "Document", pairs: list[tuple[str, str]]) -> bool:
    return resource.passes(pairs, lambda key, value: _has(row, key, value))


def _has(row: "Document", key: str, value: str) -> bool:
    match key:
        case "label":
            return label.has_all(row["Labels"], [value])
        case "name":
            return value in row["Name"]
        case "dangling":
            return bool((value in {"1", "true"}) != row["InUse"])
        case _:
            return bool(row["Driver"] == value)


def _line(row: "Document") -> "Document":
    """Return docker's `volume ls --format json` object."""
    return {
        "Driver": row["Driver"],
        "Labels": resource.labels_text(row["Labels"]),
        "Mountpoint": row["Mountpoint"],
        "Name": row["Name"],
        "Scope": row["Scope"],
        **dict.fromkeys(("Availability", "Group", "Links", "Size", "Status"), UNKNOWN),
    }


_SEVERAL = "VOLUME [VOLUME...]"
COMMANDS = (
    Command(
        "volume create",
        "[OPTIONS] [VOLUME]",
        "Make a volume; its first container fills it from the image",
        execute=create,
        flags=(
            Flag("driver", "string", "there is `local`", short="d"),
            Flag("label", "list", "set a label (`key=value`)"),
            Flag("name", "string", "its name, as the argument is"),
            Flag("opt", "map", "what it is: `type=none`, `o=bind`, `device=/path`, or `type=tmpfs`", short="o"),
        ),
        maximum=1,
        later="availability group limit-bytes required-bytes scope secret sharing topology-preferred "
        "topology-required type",
        examples=("sampan volume create data", "sampan volume create --label a=b data"),
    ),
    Command(
        "volume ls",
        "[OPTIONS]",
        "List volumes",
        execute=ls,
        flags=(
            Flag("filter", "filter", f"only those with `key=value`: {', '.join(FILTERS)}", short="f"),
            Flag("format", "string", formats.HELP),
            Flag("quiet", "bool", "names only", short="q"),
        ),
        maximum=0,
        later="cluster",
        examples=("sampan volume ls", "sampan volume ls -q --filter dangling=true"),
    ),
    Command(
        "volume inspect",
        f"[OPTIONS] {_SEVERAL}",
        "Show everything about volumes, as JSON",
        execute=inspect,
        flags=(Flag("format", "string", formats.INSPECT_HELP, short="f"),),
        minimum=1,
        examples=("sampan volume inspect data", "sampan volume inspect -f '{{.Mountpoint}}' data"),
    ),
    Command(
        "volume rm",
        f"[OPTIONS] {_SEVERAL}",
        "Remove volumes, with all that is in them",
        execute=remove,
        flags=(Flag("force", "bool", "no error for one that is not there", short="f"),),
        minimum=1,
        examples=("sampan volume rm data",),
    ),
    Command(
        "volume prune",
        "[OPTIONS]",
        "Remove the anonymous volumes that no container has",
        execute=prune,
        flags=(
            Flag("all", "bool", "named ones too", short="a"),
            Flag("filter", "filter", "only those with `label=key` or `label=key=value`"),
            Flag("force", "bool", "do not ask", short="f"),
        ),
        maximum=0,
        examples=("sampan volume prune -f", "sampan volume prune -af"),
    ),
)
