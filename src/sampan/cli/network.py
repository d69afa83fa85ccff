"""`sampan network create`, `ls`, `inspect`, `rm`, `prune`: networks of one's own."""

from sampan.cli import format as formats
from sampan.cli import resource
from sampan.cli.container import each
from sampan.cli.flags import Command, Flag, Parsed
from sampan.engine import label, network, words
from sampan.network.endpoint import HOST, NONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.document import Document
    from sampan.settings.configuration import Settings

SHORT_ID = 12
HEADERS = ("NETWORK ID", "NAME", "DRIVER", "SCOPE")
# The fields of a row and what a table calls them, as docker does.
FIELDS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}
FILTERS = ("driver", "id", "label", "name", "type")


def create(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Make a network and print its id."""
    made = network.create(
        settings,
        parsed.arguments[0],
        driver=parsed.text("driver", "bridge"),
        subnet=parsed.text("subnet"),
        gateway=parsed.text("gateway"),
        internal=parsed.is_set("internal"),
        labels=dict(parsed.convert_all("label", words.parse_pair)),
    )
    printer.out(made.id)
    return 0


def ls(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Show networks."""
    form = formats.choose(parsed)
    pairs = resource.filters(parsed, FILTERS)
    rows = [row for row in _rows(settings) if _passes(row, pairs)]
    whole = parsed.is_set("no-trunc")
    if form == formats.JSON:
        for row in rows:
            printer.json(_line(row, whole=whole))
    elif form != formats.TABLE:
        formats.show(form, printer, FIELDS, [(_line(row, whole=whole), row["Labels"]) for row in rows])
    elif parsed.is_set("quiet"):
        for row in rows:
            printer.out(_id(row, whole=whole))
    else:
        cells = [(_id(row, whole=whole), row["Name"], row["Driver"], row["Scope"]) for row in rows]
        printer.table(HEADERS, cells)
    return 0


def inspect(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Print an array of what was found; go on after an error."""
    return resource.inspect(parsed, printer, lambda name: network.inspect(settings, name))


def remove(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Remove networks."""
    return each(parsed.arguments, printer, lambda name: network.remove(settings, name))


def prune(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Remove networks that no container is on."""
    pairs = resource.filters(parsed, ("label",))
    if not resource.is_sure(parsed, printer, "this removes every network that no container is on"):
        return 1
    for name in network.prune(settings, [word for _, word in pairs]):
        printer.out(name)
    return 0


def _rows(settings: "Settings") -> "list[Document]":
    names = [found.name for found in network.every(settings)]
    return [network.inspect(settings, name) for name in sorted([*names, HOST, NONE])]


def _passes(row: "Document", pairs: list[tuple[str, str]]) -> bool:
    return resource.passes(pairs, lambda key, value: _has(row, key, value))


def _has(row: "Document", key: str, value: str) -> bool:
    match key:
        case "label":
            return label.has_all(row["Labels"], [value])
        case "id":
            return bool(row["Id"].startswith(value))
        case "name":
            return value in row["Name"]
        case "type":
            return (value == "builtin") == (row["Name"] in network.PREDEFINED)
        case _:
            return bool(row["Driver"] == value)


def _id(row: "Document", *, whole: bool) -> str:
    text: str = row["Id"]
    return text if whole else text[:SHORT_ID]


def _line(row: "Document", *, whole: bool) -> "Document":
    """Return docker's `network ls --format json` object."""
    return {
        "ID": _id(row, whole=whole),
        "Name": row["Name"],
        "Driver": row["Driver"],
        "Scope": row["Scope"],
        "Internal": str(row["Internal"]).lower(),
        "IPv4": "true",
        "IPv6": "false",
        "CreatedAt": row["Created"],
        "Labels": resource.labels_text(row["Labels"]),
    }


_SEVERAL = "NETWORK [NETWORK...]"
COMMANDS = (
    Command(
        "network create",
        "[OPTIONS] NETWORK",
        "Make a network on which containers find each other by name",
        execute=create,
        flags=(
            Flag("driver", "string", "there is `bridge`", short="d"),
            Flag("gateway", "string", "the machine's own address on it"),
            Flag("internal", "bool", "no way out, and none in"),
            Flag("label", "list", "set a label (`key=value`)"),
            Flag("subnet", "string", "its addresses, as in `10.5.0.0/16` (default: some that nobody uses)"),
        ),
        minimum=1,
        maximum=1,
        later=(
            "attachable aux-address config-from config-only ingress ip-range ipam-driver ipam-opt ipv4 ipv6 opt o scope"
        ),
        examples=("sampan network create front", "sampan network create --subnet 10.5.0.0/16 --internal back"),
    ),
    Command(
        "network ls",
        "[OPTIONS]",
        "List networks",
        execute=ls,
        flags=(
            Flag("filter", "filter", f"only those with `key=value`: {', '.join(FILTERS)}", short="f"),
            Flag("format", "string", formats.HELP),
            Flag("no-trunc", "bool", "cut nothing short"),
            Flag("quiet", "bool", "ids only", short="q"),
        ),
        maximum=0,
        examples=("sampan network ls", "sampan network ls -q --filter label=a=b"),
    ),
    Command(
        "network inspect",
        f"[OPTIONS] {_SEVERAL}",
        "Show everything about networks, as JSON",
        execute=inspect,
        flags=(Flag("format", "string", formats.INSPECT_HELP, short="f"),),
        minimum=1,
        later="verbose v",
        examples=(
            "sampan network inspect front",
            "sampan network inspect -f '{{range .Containers}}{{println .Name}}{{end}}' front",
        ),
    ),
    Command(
        "network rm",
        _SEVERAL,
        "Remove networks",
        execute=remove,
        minimum=1,
        later="force f",
        examples=("sampan network rm front back",),
    ),
    Command(
        "network prune",
        "[OPTIONS]",
        "Remove all networks that no container is on",
        execute=prune,
        flags=(
            Flag("filter", "filter", "only those with `label=key` or `label=key=value`"),
            Flag("force", "bool", "do not ask", short="f"),
        ),
        maximum=0,
        examples=("sampan network prune -f",),
    ),
)
