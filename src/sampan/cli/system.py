"""`sampan version` and `sampan system reset`."""

import os
import sys

from sampan.cli import format as formats
from sampan.cli import resource
from sampan.cli.flags import Command, Flag, Parsed
from sampan.errors import Conflict, InvalidArgument, NotFound
from sampan.oci import architecture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings

# What `--version` asks `version` for.
SHORT = "short"
# The store's own file: a directory without it is not ours to empty.
MARK = "sampan.db"


def version(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Print Sampan's version, and where it keeps its state."""
    number = installed_version()
    if parsed.text("format") == SHORT:
        printer.out(f"sampan {number}")
        return 0
    machine = os.uname()
    facts = {
        "Version": number,
        "Python": ".".join(str(part) for part in sys.version_info[:3]),
        "Kernel": machine.release,
        "Arch": machine.machine,
        "Root": settings.root,
        "Run": settings.run,
    }
    form = formats.choose(parsed)
    if form == formats.JSON:
        printer.json(facts)
    elif form != formats.TABLE:
        # There is no server: for templates that are written for docker both sides are this program.
        side = {
            "Version": number,
            "Os": "linux",
            "Arch": architecture.name_of(machine.machine),
            "KernelVersion": machine.release,
        }
        formats.filled(form)(printer, facts | {"Client": side, "Server": side})
    else:
        printer.out("\n".join(f"{key + ':':<10}{value}" for key, value in facts.items()))
    return 0


def installed_version() -> str:
    """Return the version that the installed package says; importlib.metadata costs 20 ms, so only here."""
    from importlib import metadata

    try:
        return metadata.version("sampan")
    except metadata.PackageNotFoundError:
        return "unknown"


def reset(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Remove containers, network, images, volumes and caches: everything that Sampan put on this machine."""
    _refuse_foreign(settings)
    if not resource.is_sure(
        parsed, printer, f"this removes all containers, images, volumes and caches in {settings.root}"
    ):
        return 1
    _remove_unit(settings, printer)
    from sampan.engine import rootless

    rootless.enter(settings)
    if os.path.lexists(f"{settings.root}/{MARK}"):
        _remove_containers(settings)
        _remove_networks(settings)
    for directory in (settings.root, settings.run):
        _remove_tree(directory)
        printer.note(f"removed {directory}")
    return 0


def _remove_unit(settings: "Settings", printer: "Printer") -> None:
    """Take away the unit that starts this store's containers after a reboot; another store's stays.

    Before a normal user's process goes where his systemd does not know him.
    """
    from sampan.engine import unit

    try:
        found = unit.find(settings)
    except Conflict:
        return  # somebody else's file, which is called as ours
    if found is not None and found.root == os.path.abspath(settings.root) and unit.disable(settings):
        printer.note(f"removed {found.path}")


def _refuse_foreign(settings: "Settings") -> None:
    """Refuse to empty a directory that is not a store; raises InvalidArgument.

    One that holds nothing but SAMPAN_RUN is what `doctor` leaves before there is a store.
    """
    root = settings.root
    if not os.path.isdir(root) or os.path.isfile(f"{root}/{MARK}"):
        return
    if any(f"{root}/{name}" != settings.run for name in os.listdir(root)):
        raise InvalidArgument(f"`{root}` is not a store of Sampan", hints=("see what `SAMPAN_ROOT` says",))


def _remove_containers(settings: "Settings") -> None:
    """Kill and remove every container."""
    from sampan.engine import container, inspection

    for row in inspection.summaries(settings, all=True):
        try:
            container.remove(settings, row["Id"], force=True, volumes=True)
        except NotFound:
            continue  # it removed itself meanwhile
    if inspection.summaries(settings, all=True):
        raise Conflict("a container was started meanwhile", hints=("run `sampan system reset` again",))


def _remove_networks(settings: "Settings") -> None:
    """Take the bridges and their rules off the machine; a normal user's went with their holder."""
    if settings.uid != 0:
        return
    from sampan.database import connection
    from sampan.network import bridge, firewall, ipam

    with connection.open(settings) as database:
        for network in ipam.every(database):
            firewall.remove(network)
            bridge.remove(network)


def _remove_tree(directory: str) -> None:
    """Remove a directory and all below it; idempotent. rmtree follows no symlink."""
    import shutil

    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return


COMMANDS = (
    Command(
        "version",
        "[OPTIONS]",
        "Show the version, and where state is kept",
        execute=version,
        flags=(Flag("format", "string", formats.INSPECT_HELP, short="f"),),
        maximum=0,
        examples=("sampan version --format json", "sampan version --format '{{.Version}}'"),
    ),
    Command(
        "system reset",
        "[OPTIONS]",
        "Remove everything that Sampan ever put on this machine",
        execute=reset,
        flags=(Flag("force", "bool", "do not ask", short="f"),),
        maximum=0,
        text="Containers are killed; images, volumes, caches and records go with them.",
        examples=("sampan system reset --force",),
    ),
)
