"""`sampan compose ps`, `logs`, `images`, `ls`, `port`, `top`: what there is of a project."""

import time

from sampan.cli import format as formats
from sampan.cli import listing
from sampan.cli.compose import selection
from sampan.cli.flags import Command, Flag, Parsed
from sampan.compose import label, sight
from sampan.engine import inspection
from sampan.errors import InvalidArgument, NotFound
from sampan.units import human_duration, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.cli.render import Printer
    from sampan.compose.sight import Seen
    from sampan.document import Document
    from sampan.engine.logs import Line
    from sampan.settings.configuration import Settings

_HEADERS = ("NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS")
# The fields of a row of `ps` and what a table calls them, as docker compose does.
_FIELDS = listing.FIELDS | {
    "Name": "NAME",
    "Project": "PROJECT",
    "Service": "SERVICE",
    "Created": "CREATED",
    "Health": "HEALTH",
    "ExitCode": "EXIT CODE",
    "Publishers": "PUBLISHERS",
}
_COMMAND_AT_MOST = 20
_ID = 12


def ps(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """List the project's containers."""
    form = formats.choose(parsed)
    project = selection.load(parsed, settings, printer, parsed.arguments)
    seen = [one for one in sight.containers(settings, project.name) if not one.is_one_off or parsed.is_set("all")]
    statuses, whole = parsed.words("status"), parsed.is_set("no-trunc")
    seen = [
        one
        for one in seen
        if (not parsed.arguments or one.service in parsed.arguments)
        and (one.state in statuses if statuses else one.is_running or parsed.is_set("all"))
        and (not parsed.is_set("no-orphans") or one.service in project.services)
    ]
    if parsed.is_set("services"):
        for name in sorted({one.service for one in seen}):
            printer.out(name)
    elif parsed.is_set("quiet"):
        for one in seen:
            printer.out(one.id)
    elif form == formats.JSON:
        for one in seen:
            printer.json(_document(settings, one, project.name))
    elif form != formats.TABLE:
        rows = [(_row(settings, one, project.name, whole=whole), one.row["Labels"]) for one in seen]
        formats.show(form, printer, _FIELDS, rows)
    else:
        printer.table(_HEADERS, [_cells(one) for one in seen])
    return 0


def _cells(one: "Seen") -> tuple[str, ...]:
    row = one.row
    command = row["Command"]
    short = command if len(command) <= _COMMAND_AT_MOST else f"{command[: _COMMAND_AT_MOST - 1]}…"
    age = human_duration(time.clock_gettime(time.CLOCK_REALTIME) - row["Created"])
    ports = listing.ports_text(row["Ports"])
    return one.name, row["Image"], f'"{short}"', one.service, f"{age} ago", row["Status"], ports


def _row(settings: "Settings", one: "Seen", project_name: str, *, whole: bool) -> "Document":
    """Return what a template sees of a container: docker's fields of `ps` and compose's own."""
    return _document(settings, one, project_name) | listing.document(one.row, whole=whole)


def _document(settings: "Settings", one: "Seen", project_name: str) -> "Document":
    """Return docker compose's `ps --format json` object."""
    row = one.row
    document = inspection.inspect(settings, one.id)
    told = document["State"]
    now, created = time.clock_gettime(time.CLOCK_REALTIME), row["Created"]
    mounts = [mount.get("Name") or mount["Source"] for mount in document["Mounts"] if mount["Type"] != "tmpfs"]
    published = [
        {
            "URL": port.get("IP", ""),
            "TargetPort": port["PrivatePort"],
            "PublishedPort": port.get("PublicPort", 0),
            "Protocol": port["Type"],
        }
        for port in row["Ports"]
    ]
    return {
        "ID": one.id[:_ID],
        "Name": one.name,
        "Names": one.name,
        "Image": row["Image"],
        "Command": f'"{row["Command"]}"',
        "Project": project_name,
        "Service": one.service,
        "Created": created,
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(created)),
        "RunningFor": f"{human_duration(now - created)} ago",
        "Labels": ",".join(f"{key}={value}" for key, value in row["Labels"].items()),
        "Networks": ",".join(sorted(document["NetworkSettings"]["Networks"])),
        "Mounts": ",".join(mounts),
        "LocalVolumes": str(len([mount for mount in document["Mounts"] if mount["Type"] == "volume"])),
        "State": one.state,
        "Status": row["Status"],
        "Health": told.get("Health", {}).get("Status", ""),
        "ExitCode": told["ExitCode"],
        "Publishers": published,
        "Ports": listing.ports_text(row["Ports"]),
    }


def logs(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Show what the project's containers wrote, the oldest line first; with --follow what comes too."""
    import heapq

    from sampan.cli.compose.output import Output
    from sampan.cli.logs import tail as parse_tail
    from sampan.compose.follow import Follower
    from sampan.engine import logs as engine_logs
    from sampan.engine import state

    project = selection.load(parsed, settings, printer, parsed.arguments)
    output = Output(printer, parsed, project.name)
    seen = [one for one in sight.containers(settings, project.name) if not one.is_one_off]
    seen = [one for one in seen if not parsed.arguments or one.service in parsed.arguments]
    count = parsed.convert("tail", parse_tail)
    labels = {one.id: output.label(one.name) for one in seen}
    now = time.clock_gettime(time.CLOCK_REALTIME)
    since, until = parsed.text("since"), parsed.text("until")

    def stored(one: "Seen") -> "Iterator[tuple[str, str, Line]]":
        for line in engine_logs.read(settings, one.id, tail=count, since=since, until=until, now=now):
            yield line.time, labels[one.id], line

    last = ""
    if parsed.is_set("follow"):
        last = state.timestamp(time.time_ns())
    for moment, name, line in heapq.merge(*(stored(one) for one in seen), key=lambda told: told[0]):
        if not last or moment < last:
            output.show(name, line)
    if parsed.is_set("follow"):
        follower = Follower(settings, output.show, since=last)
        for one in seen:
            if one.is_running:
                follower.add(one.id, labels[one.id])
        follower.run()
    return 0


def images(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """List the images that the project's containers were made from."""
    from sampan.database import connection
    from sampan.image.store import Images

    form = formats.choose_plain(parsed)
    project = selection.load(parsed, settings, printer, parsed.arguments)
    rows: list[tuple[str, str, str, str, int]] = []
    with connection.open(settings) as database:
        for one in sight.containers(settings, project.name):
            if parsed.arguments and one.service not in parsed.arguments:
                continue
            above, slash, last = one.row["Image"].rpartition("/")
            last, _, tag = last.partition(":")
            try:
                size = Images(database).find(one.row["ImageID"]).size_bytes
            except NotFound:
                size = 0
            rows.append((one.name, f"{above}{slash}{last}", tag or "latest", one.row["ImageID"], size))
    if parsed.is_set("quiet"):
        for id in dict.fromkeys(row[3] for row in rows):
            printer.out(id.removeprefix("sha256:")[:_ID])
    elif form == formats.JSON:
        keys = ("ContainerName", "Repository", "Tag", "ID", "Size")
        printer.json([dict(zip(keys, row, strict=True)) for row in rows])
    else:
        cells = [(*row[:3], row[3].removeprefix("sha256:")[:_ID], human_size(row[4]) if row[4] else "") for row in rows]
        printer.table(("CONTAINER", "REPOSITORY", "TAG", "IMAGE ID", "SIZE"), cells)
    return 0


def ls(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """List the projects that have containers."""
    form = formats.choose_plain(parsed)
    rows = []
    for name, seen in sight.projects(settings).items():
        running = [one for one in seen if one.is_running]
        chosen = seen if parsed.is_set("all") else running
        if not chosen:
            continue
        counts: dict[str, int] = {}
        for one in chosen:
            counts[one.state] = counts.get(one.state, 0) + 1
        status = ", ".join(f"{word}({count})" for word, count in sorted(counts.items()))
        rows.append((name, status, seen[0].row["Labels"].get(label.FILES, "")))
    if parsed.is_set("quiet"):
        for row in rows:
            printer.out(row[0])
    elif form == formats.JSON:
        printer.json([dict(zip(("Name", "Status", "ConfigFiles"), row, strict=True)) for row in rows])
    else:
        printer.table(("NAME", "STATUS", "CONFIG FILES"), rows)
    return 0


def port(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Print where a service's port is published."""
    name, wanted = parsed.arguments
    project = selection.load(parsed, settings, printer, [name])
    if not wanted.isdecimal():
        raise InvalidArgument(f"`{wanted}` is no port", hints=("write the port inside, like `80`",))
    number = parsed.number("index") or 1
    protocol = parsed.text("protocol", "tcp")
    for one in sight.containers(settings, project.name):
        if one.service != name or one.number != number or one.is_one_off:
            continue
        for told in one.row["Ports"]:
            if told["PrivatePort"] == int(wanted) and told["Type"] == protocol and "PublicPort" in told:
                printer.out(f"{told['IP']}:{told['PublicPort']}")
                return 0
        raise NotFound(f"the port {wanted}/{protocol} of `{one.name}` is not published")
    raise NotFound(f"the service `{name}` has no container {number}", hints=("`sampan compose up -d` makes it",))


_FORMAT = Flag("format", "string", "`table` or `json`")
_QUIET = Flag("quiet", "bool", "ids only", short="q")
COMMANDS = (
    Command(
        "compose ps",
        "[OPTIONS] [SERVICE...]",
        "List the project's containers",
        execute=ps,
        flags=(
            Flag("all", "bool", "stopped and new ones too", short="a"),
            Flag("format", "string", formats.HELP),
            Flag("no-orphans", "bool", "not those of services that are not in the file"),
            Flag("no-trunc", "bool", "cut nothing short in a template"),
            _QUIET,
            Flag("services", "bool", "names of services only"),
            Flag("status", "list", "only those in this state"),
        ),
        later="filter orphans",
        examples=(
            "sampan compose ps",
            "sampan compose ps -a --format json",
            "sampan compose ps --format '{{.Name}} {{.Health}}'",
        ),
    ),
    Command(
        "compose logs",
        "[OPTIONS] [SERVICE...]",
        "Show what the project's containers wrote",
        execute=logs,
        flags=(
            Flag("follow", "bool", "go on until they end", short="f"),
            Flag("no-color", "bool", "print without colours"),
            Flag("no-log-prefix", "bool", "print no names before the lines"),
            Flag("since", "string", "only what came after a time (`2026-01-02T13:00:00Z`) or in the last `10m`"),
            Flag("tail", "string", "only the last N lines of each, or `all`", short="n"),
            Flag("timestamps", "bool", "put the time before each line", short="t"),
            Flag("until", "string", "only what came before a time or until `10m` ago"),
        ),
        later="index",
        examples=("sampan compose logs -f web",),
    ),
    Command(
        "compose images",
        "[OPTIONS] [SERVICE...]",
        "List the images of the project's containers",
        execute=images,
        flags=(_FORMAT, _QUIET),
    ),
    Command(
        "compose ls",
        "[OPTIONS]",
        "List the projects",
        execute=ls,
        flags=(Flag("all", "bool", "stopped ones too", short="a"), _FORMAT, _QUIET),
        maximum=0,
        later="filter",
    ),
    Command(
        "compose port",
        "[OPTIONS] SERVICE PORT",
        "Print where a port is published",
        execute=port,
        flags=(Flag("index", "int", "which container"), Flag("protocol", "string", "`tcp` or `udp`")),
        minimum=2,
        maximum=2,
    ),
)
