"""`sampan network create`, `ls`, `inspect`, `rm`, `prune`: networks of one's own."""

from sampan.cli import format as formats
from sampan.cli import resource
from sampan.cli.container import each
from sampan.cli.flags import Command, Flag, Parsed
from sampan.engine import label, network, words
from sampan.errors import InvalidArgument, NotFound, Unsupported
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
FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")


def create(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Make a network and print its id."""
    _refuse_at_creation(parsed)
    made = network.create(
        settings,
        parsed.arguments[0],
        driver=parsed.text("driver", "bridge"),
        subnet=parsed.text("subnet"),
        gateway=parsed.text("gateway"),
        ip_range=parsed.text("ip-range"),
        reserved=dict(parsed.convert_all("aux-address", words.parse_pair)),
        internal=parsed.is_set("internal"),
        attachable=parsed.is_set("attachable"),
        options=dict(parsed.convert_all("opt", words.parse_pair)),
        labels=dict(parsed.convert_all("label", words.parse_pair)),
    )
    printer.out(made.id)
    return 0


def _refuse_at_creation(parsed: Parsed) -> None:
    """Refuse what one machine's bridges have not; what says that they are that is accepted."""
    if parsed.is_set("ipv6"):
        raise Unsupported("networks have no IPv6", hints=("leave `--ipv6` out", "or run with `--network host`"))
    if parsed.values.get("ipv4") is False:
        raise InvalidArgument("a network has IPv4", hints=("leave `--ipv4` out",))
    if parsed.text("scope", "local") != "local":
        raise Unsupported(f"a network of scope `{parsed.text('scope')}` is a swarm's", hints=("there is `local`",))
    if parsed.text("ipam-driver", "default") != "default":
        raise Unsupported(f"the driver of addresses `{parsed.text('ipam-driver')}` is not there", hints=_DEFAULT_ONLY)
    for flag in ("ipam-opt", "config-from", "config-only", "ingress"):
        if parsed.values.get(flag):
            raise Unsupported(f"`--{flag}` is for drivers and swarms that are not there", hints=("leave it out",))


def connect(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Put a container on a network."""
    from sampan.engine import connecting

    _refuse_addresses(parsed)
    name, container = parsed.arguments
    lack = connecting.connect(settings, name, container, aliases=tuple(parsed.words("alias")), ip=parsed.text("ip"))
    if lack:
        printer.warn(lack)
    return 0


def _refuse_addresses(parsed: Parsed) -> None:
    """Refuse what no network of ours has."""
    if parsed.text("ip6") or parsed.words("link-local-ip"):
        raise Unsupported("an interface has one IPv4 address", hints=("use `--ip`",))
    if parsed.words("link"):
        raise Unsupported("`--link` is for the default network", hints=("use `--alias` on the other container",))
    if parsed.words("driver-opt"):
        raise Unsupported("an interface has no options", hints=("leave `--driver-opt` out",))
    if parsed.number("gw-priority"):
        raise Unsupported(
            "the way out is the first network that has one", hints=("connect to it first, or leave the flag out",)
        )


def disconnect(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:  # noqa: ARG001  every command's shape
    """Take a container off a network."""
    from sampan.engine import connecting

    name, container = parsed.arguments
    connecting.disconnect(settings, name, container)
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
    names = parsed.arguments
    if parsed.is_set("force"):
        names = [name for name in names if _is_there(settings, name)]
    return each(names, printer, lambda name: network.remove(settings, name))


def _is_there(settings: "Settings", name: str) -> bool:
    try:
        network.find(settings, name)
    except NotFound:
        return False
    return True


def prune(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Remove networks that no container is on."""
    pairs = resource.filters(parsed, ("label",))
    if not resource.is_sure(parsed, printer, "this removes every network that no container is on"):
        return 1
    for name in network.prune(settings, chosen=label.Selection(wanted=[word for _, word in pairs])):
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
        case "scope":
            return bool(row["Scope"] == value)
        case "dangling":
            is_dangling = not row["Containers"] and row["Name"] not in network.PREDEFINED
            return is_dangling == (value in {"1", "true", "True"})
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


_DEFAULT_ONLY = ("there is `default`",)
_SEVERAL = "NETWORK [NETWORK...]"
COMMANDS = (
    Command(
        "network create",
        "[OPTIONS] NETWORK",
        "Make a network on which containers find each other by name",
        execute=create,
        flags=(
            Flag("attachable", "bool", "accepted: containers may always be attached"),
            Flag("aux-address", "map", "an address that no container gets (`name=10.5.0.9`)"),
            Flag("config-from", "string", "not there: it is a swarm's"),
            Flag("config-only", "bool", "not there: it is a swarm's"),
            Flag("driver", "string", "there is `bridge`", short="d"),
            Flag("gateway", "string", "the machine's own address on it"),
            Flag("ingress", "bool", "not there: it is a swarm's"),
            Flag("internal", "bool", "no way out, and none in"),
            Flag("ip-range", "string", "the part of the subnet from which containers get addresses"),
            Flag("ipam-driver", "string", "there is `default`"),
            Flag("ipam-opt", "map", "not there: the driver of addresses has no options"),
            Flag("ipv4", "bool", "accepted: there always is IPv4"),
            Flag("ipv6", "bool", "not there"),
            Flag("label", "list", "set a label (`key=value`)"),
            Flag("opt", "map", "an option of the bridge (`com.docker.network.driver.mtu=1400`)", short="o"),
            Flag("scope", "string", "there is `local`"),
            Flag("subnet", "string", "its addresses, as in `10.5.0.0/16` (default: some that nobody uses)"),
        ),
        minimum=1,
        maximum=1,
        examples=("sampan network create front", "sampan network create --subnet 10.5.0.0/16 --internal back"),
    ),
    Command(
        "network connect",
        "[OPTIONS] NETWORK CONTAINER",
        "Put a container, running or not, on a network",
        execute=connect,
        flags=(
            Flag("alias", "list", "a further name on the network"),
            Flag("driver-opt", "list", "not there: interfaces have no options"),
            Flag("gw-priority", "int", "not there: the way out is the first network that has one"),
            Flag("ip", "string", "its address there"),
            Flag("ip6", "string", "not there: networks have no IPv6"),
            Flag("link", "list", "not there: use `--alias`"),
            Flag("link-local-ip", "list", "not there: use `--ip`"),
        ),
        minimum=2,
        maximum=2,
        examples=("sampan network connect front web", "sampan network connect --alias db back store"),
    ),
    Command(
        "network disconnect",
        "[OPTIONS] NETWORK CONTAINER",
        "Take a container, running or not, off a network",
        execute=disconnect,
        flags=(Flag("force", "bool", "accepted: there is nothing to force", short="f"),),
        minimum=2,
        maximum=2,
        examples=("sampan network disconnect front web",),
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
        flags=(
            Flag("format", "string", formats.INSPECT_HELP, short="f"),
            Flag("verbose", "bool", "accepted: there is no more to tell", short="v"),
        ),
        minimum=1,
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
        flags=(Flag("force", "bool", "no error for one that is not there", short="f"),),
        minimum=1,
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
