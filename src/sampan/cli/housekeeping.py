"""`sampan rename`, `port` and `container prune`."""

import time

from sampan.cli import resource
from sampan.cli.flags import Command, Flag, Parsed
from sampan.engine import ending, inspection, label, logs
from sampan.engine import rename as renaming
from sampan.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.cli.render import Printer
    from sampan.document import Document
    from sampan.engine.record import Container
    from sampan.settings.configuration import Settings

FILTERS = ("label", "label!", "until")


def rename(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:  # noqa: ARG001  every command's shape
    """Call a container otherwise."""
    renaming.rename(settings, *parsed.arguments)
    return 0


def port(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Print where the ports of a container are on this machine, or where the one is."""
    name, *wanted = parsed.arguments
    ports = inspection.inspect(settings, name)["NetworkSettings"]["Ports"]
    if not wanted:
        for key in sorted(ports, key=_number):
            for address in _addresses(ports[key]):
                printer.out(f"{key} -> {address}")
        return 0
    number, _, protocol = wanted[0].partition("/")
    if not number.isdecimal():
        raise InvalidArgument(f"`{wanted[0]}` is not a port", hints=("write `80` or `53/udp`",))
    found = list(_addresses(ports.get(f"{number}/{protocol or 'tcp'}")))
    if not found:
        hints = (f"`sampan port {name}` shows what is published",)
        raise NotFound(f"the port `{wanted[0]}` of `{name}` is not published", hints=hints)
    for address in found:
        printer.out(address)
    return 0


def _number(key: str) -> tuple[int, str]:
    number, _, protocol = key.partition("/")
    return int(number), protocol


def _addresses(bindings: "list[Document] | None") -> "Iterator[str]":
    for binding in bindings or ():
        host = binding["HostIp"] or "0.0.0.0"  # noqa: S104  what docker prints, nothing is bound here
        yield f"[{host}]:{binding['HostPort']}" if ":" in host else f"{host}:{binding['HostPort']}"


def selection(parsed: Parsed) -> label.Selection:
    """Read the `--filter` words of a prune; raises InvalidArgument."""
    pairs = resource.filters(parsed, FILTERS)
    now = time.clock_gettime(time.CLOCK_REALTIME)
    return label.Selection(
        until=[logs.nanoseconds(value, now) for key, value in pairs if key == "until"],
        wanted=[value for key, value in pairs if key == "label"],
        without=[value for key, value in pairs if key == "label!"],
    )


def prune(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Remove all containers that do not run."""
    chosen = selection(parsed)

    def is_wanted(container: "Container") -> bool:
        return chosen.takes(container.config["Labels"] or {}, container.created)

    if not resource.is_sure(parsed, printer, "this removes every container that does not run"):
        return 1
    for container_id in ending.prune(settings, is_wanted):
        printer.out(container_id)
    return 0


COMMANDS = (
    Command(
        "rename",
        "CONTAINER NEW_NAME",
        "Give a container another name",
        execute=rename,
        minimum=2,
        maximum=2,
        examples=("sampan rename web web-old",),
    ),
    Command(
        "port",
        "CONTAINER [PRIVATE_PORT[/PROTOCOL]]",
        "Show where a container's ports are published",
        execute=port,
        minimum=1,
        maximum=2,
        examples=("sampan port web", "sampan port web 80"),
    ),
    Command(
        "container prune",
        "[OPTIONS]",
        "Remove the containers that do not run",
        execute=prune,
        flags=(
            Flag("filter", "filter", "only those with `label=key[=value]`, `label!=key[=value]` or `until=24h`"),
            Flag("force", "bool", "do not ask", short="f"),
        ),
        maximum=0,
        examples=("sampan container prune -f", "sampan container prune -f --filter until=24h"),
    ),
)
