"""`sampan ps`: the containers, as a table or as lines of JSON with docker's keys. Hot."""

import time

from sampan.cli import format as formats
from sampan.cli import resource
from sampan.cli.flags import Command, Flag, Parsed
from sampan.engine import inspection
from sampan.errors import InvalidArgument
from sampan.units import human_duration, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.document import Document
    from sampan.settings.configuration import Settings

SHORT_ID = 12
COMMAND_AT_MOST = 20
STATES = ("created", "running", "restarting", "removing", "paused", "exited", "dead")
FILTERS = ("ancestor", "exited", "id", "label", "name", "status")
HEADERS = ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES")
# The fields of a row and what a table calls them, as docker does.
FIELDS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Labels": "LABELS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Mounts": "MOUNTS",
    "Names": "NAMES",
    "Networks": "NETWORKS",
    "Ports": "PORTS",
    "Size": "SIZE",
    "State": "STATE",
    "Status": "STATUS",
}


def ps(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Show containers."""
    form = formats.choose(parsed)
    filters = _filters(parsed)
    latest = 1 if parsed.is_set("latest") else parsed.number("last")
    # docker: a filter on the state, and --last, look at every container.
    everything = parsed.is_set("all") or latest is not None or any(k in {"status", "exited"} for k, _ in filters)
    rows = [row for row in inspection.summaries(settings, all=everything) if _is_wanted(row, filters)]
    rows = rows if latest is None or latest < 0 else rows[:latest]
    whole = parsed.is_set("no-trunc")
    # docker: a template that asks for it asks for it.
    has_size = parsed.is_set("size") or ".Size" in parsed.text("format")
    if has_size and not parsed.is_set("quiet"):
        _measure(settings, rows)
    if parsed.is_set("quiet"):
        for row in rows:
            printer.out(row["Id"] if whole else row["Id"][:SHORT_ID])
    elif form == formats.JSON:
        for row in rows:
            printer.json(document(row, whole=whole))
    elif form != formats.TABLE:
        formats.show(form, printer, FIELDS, [(document(row, whole=whole), row["Labels"]) for row in rows])
    elif has_size:
        cells = [(*_cells(row, whole=whole), _size(row)) for row in rows]
        printer.table((*HEADERS, FIELDS["Size"]), cells)
    else:
        printer.table(HEADERS, [_cells(row, whole=whole) for row in rows])
    return 0


def _measure(settings: "Settings", rows: "list[Document]") -> None:
    from sampan.engine import space  # a walk through all files, which few ask for

    sizes = space.sizes(settings, [(row["Id"], row["ImageID"]) for row in rows])
    for row in rows:
        row["SizeRw"], row["SizeRootFs"] = sizes[row["Id"]]


def _size(row: "Document") -> str:
    """Print a size as docker does: `12kB (virtual 2MB)`."""
    virtual = f" (virtual {human_size(row['SizeRootFs'], 3)})" if row.get("SizeRootFs") else ""
    return human_size(row.get("SizeRw", 0), 3) + virtual


def _filters(parsed: Parsed) -> list[tuple[str, str]]:
    """Read the `--filter` words; raises InvalidArgument."""
    filters = resource.filters(parsed, FILTERS)
    for key, value in filters:
        if key == "status" and value not in STATES:
            raise InvalidArgument(f"`{value}` is not a state", hints=(f"states: {', '.join(STATES)}",))
    return filters


def _is_wanted(row: "Document", filters: list[tuple[str, str]]) -> bool:
    return resource.passes(filters, lambda key, value: _passes(row, key, value))


def _passes(row: "Document", key: str, value: str) -> bool:
    match key:
        case "status":
            return bool(row["State"] == value)
        case "id":
            return bool(row["Id"].startswith(value))
        case "name":
            return _named(row["Names"], value)
        case "ancestor":
            return value in {row["Image"], row["Image"].partition(":")[0], row["ImageID"]} or _has_id(row, value)
        case "exited":
            return f"({value})" in row["Status"] and row["State"] == "exited"
        case _:
            label, equals, wanted = value.partition("=")
            return label in row["Labels"] and (not equals or row["Labels"][label] == wanted)


def _has_id(row: "Document", value: str) -> bool:
    return len(value) >= 4 and bool(row["ImageID"].removeprefix("sha256:").startswith(value.removeprefix("sha256:")))


def _named(names: list[str], pattern: str) -> bool:
    """Match as docker does: a regular expression found anywhere in the name."""
    import re  # 4 ms, so only for this filter

    try:
        return any(re.search(pattern, name) or re.search(pattern, f"/{name}") for name in names)
    except re.error as error:
        raise InvalidArgument(f"`{pattern}` is not a pattern for names") from error


def ports_text(ports: "list[Document]") -> str:
    """Print ports as docker does: `0.0.0.0:8000->5000/tcp, 80/tcp`."""
    words = []
    for port in ports:
        inside = f"{port['PrivatePort']}/{port['Type']}"
        outside = port.get("PublicPort")
        address = port.get("IP") or "0.0.0.0"  # noqa: S104  what docker prints, nothing is bound here
        words.append(f"{f'[{address}]' if ':' in address else address}:{outside}->{inside}" if outside else inside)
    return ", ".join(words)


def _cells(row: "Document", *, whole: bool) -> tuple[str, ...]:
    """Return one line of the table."""
    image = row["Image"]
    return (
        row["Id"] if whole else row["Id"][:SHORT_ID],
        image if whole else image.removeprefix("sha256:")[:SHORT_ID] if image.startswith("sha256:") else image,
        _command(row["Command"], whole=whole),
        _age(row["Created"]),
        row["Status"],
        ports_text(row["Ports"]),
        ",".join(row["Names"]),
    )


def _command(text: str, *, whole: bool) -> str:
    if not whole and len(text) > COMMAND_AT_MOST:
        text = text[: COMMAND_AT_MOST - 1] + "…"
    return f'"{text}"'


def _age(created: float) -> str:
    return human_duration(time.clock_gettime(time.CLOCK_REALTIME) - created) + " ago"


def document(row: "Document", *, whole: bool) -> "Document":
    """Return docker's `ps --format json` object."""
    names, labels, mounts = row["Names"], row["Labels"], row["Mounts"]
    return {
        "ID": row["Id"] if whole else row["Id"][:SHORT_ID],
        "Image": row["Image"],
        "Command": _command(row["Command"], whole=whole),
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(row["Created"])),
        "RunningFor": _age(row["Created"]),
        "Labels": resource.labels_text(labels),
        "LocalVolumes": str(sum(mount.get("Type") == "volume" for mount in mounts)),
        "Mounts": ",".join(mount.get("Name") or mount.get("Source", "") for mount in mounts),
        "Names": ",".join(names),
        "Networks": ",".join(row["NetworkSettings"].get("Networks", {})),
        "Ports": ports_text(row["Ports"]),
        "Size": _size(row),
        "State": row["State"],
        "Status": row["Status"],
    }


COMMANDS = (
    Command(
        "ps",
        "[OPTIONS]",
        "List containers",
        execute=ps,
        flags=(
            Flag("all", "bool", "stopped and new ones too", short="a"),
            Flag("filter", "filter", f"only those with `key=value`: {', '.join(FILTERS)}", short="f"),
            Flag("format", "string", formats.HELP),
            Flag("last", "int", "the last N created", short="n"),
            Flag("latest", "bool", "the last created", short="l"),
            Flag("no-trunc", "bool", "cut nothing short"),
            Flag("quiet", "bool", "ids only", short="q"),
            Flag("size", "bool", "what each has written, and with its image", short="s"),
        ),
        maximum=0,
        examples=(
            "sampan ps -a",
            "sampan ps -q --filter name=web",
            "sampan ps --format 'table {{.Names}}\\t{{.Status}}'",
        ),
    ),
)
