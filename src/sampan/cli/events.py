"""`sampan events`: what happens to containers, images, networks and volumes, as it happens, or what has happened."""

import time

from sampan.cli import format as formats
from sampan.cli import resource
from sampan.cli.flags import Command, Flag, Parsed
from sampan.cli.render import visible
from sampan.engine import journal, logs, rootless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.document import Document
    from sampan.engine.journal import Event
    from sampan.settings.configuration import Settings

FILTERS = ("container", "daemon", "event", "image", "label", "network", "scope", "type", "volume")
_BILLION = 1_000_000_000
# JSON key of the API -> the template's field, where they differ.
_FIELDS = {"status": "Status", "id": "ID", "from": "From", "scope": "Scope", "time": "Time", "timeNano": "TimeNano"}


def events(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Show events until Ctrl-C, or until a time."""
    form = formats.choose(parsed)
    show = formats.filled(form) if form not in {formats.TABLE, formats.JSON} else None
    filters = resource.filters(parsed, FILTERS)
    rootless.enter(settings)
    now = time.clock_gettime(time.CLOCK_REALTIME)
    since, until = (logs.moment(parsed.text(name), now) for name in ("since", "until"))
    for event in journal.events(settings, since=since, until=until):
        if not resource.passes(filters, lambda key, value, event=event: _passes(event, key, value)):  # type: ignore[misc]  # binds early
            continue
        document = event.document()
        if show:
            show(printer, {_FIELDS.get(key, key): value for key, value in document.items()})
        elif form == formats.JSON:
            printer.json(document)
        else:
            printer.out(visible(_line(event)))
    return 0


def _line(event: "Event") -> str:
    """Print docker's line: `TIME container ACTION ID (key=value, …)`."""
    seconds, rest = divmod(event.time_ns, _BILLION)
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(event.attributes.items()))
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", local)
    return f"{stamp}.{rest:09}{zone} {event.kind} {event.action} {event.id} ({attributes})"


def _passes(event: "Event", key: str, value: str) -> bool:
    attributes: Document = event.attributes
    match key:
        case "container" | "daemon" | "network" | "volume":
            # docker's: the beginning of an id or a name is enough.
            return event.kind == key and (
                event.id.startswith(value) or str(attributes.get("name", "")).startswith(value)
            )
        case "scope":
            return value == "local"
        case "event":
            return event.action == value or event.action.partition(":")[0] == value
        case "image":
            image = str(attributes.get("name" if event.kind == "image" else "image", ""))
            return value in {event.id, image, image.rpartition(":")[0]} if image else False
        case "label":
            label, equals, wanted = value.partition("=")
            return label in attributes and (not equals or attributes[label] == wanted)
        case _:
            return value == event.kind


COMMANDS = (
    Command(
        "events",
        "[OPTIONS]",
        "Show what happens to containers, images, networks and volumes, as it happens",
        execute=events,
        flags=(
            Flag("filter", "filter", f"only those with `key=value`: {', '.join(FILTERS)}", short="f"),
            Flag("format", "string", "`json`, or a Go template like `{{.Action}} {{.Actor.Attributes.name}}`"),
            Flag("since", "string", "what happened since a time (`2026-01-02T13:00:00Z`) or in the last `10m` as well"),
            Flag("until", "string", "end at a time"),
        ),
        maximum=0,
        text=(
            "Containers: create, attach, start, exec_create, exec_start, exec_die, pause, unpause, update, rename,\n"
            "commit, kill, oom, die, stop, restart, health_status, destroy.\n"
            "Images: pull, push, tag, untag, delete, import, load, save.\n"
            "Networks: create, connect, disconnect, destroy. Volumes: create, mount, unmount, destroy.\n"
            "The last megabyte of events is kept."
        ),
        examples=(
            "sampan events",
            "sampan events --since 1h --filter event=die --format json",
            "sampan events --since 2026-01-02T13:00:00Z --until 10m",
        ),
    ),
)
