"""`sampan system prune`: what nothing uses goes."""

from sampan.cli import housekeeping, resource
from sampan.cli.flags import Command, Flag, Parsed
from sampan.engine import prune as engine_prune
from sampan.engine import space
from sampan.errors import InvalidArgument
from sampan.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings


def prune(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Remove what is not used, after a question."""
    every_image, volumes = parsed.is_set("all"), parsed.is_set("volumes")
    chosen = housekeeping.selection(parsed)
    if chosen.until and volumes:
        raise InvalidArgument("`--filter until=…` and `--volumes` exclude each other", hints=("volumes have no age",))
    if not resource.is_sure(parsed, printer, _what_goes(every_image=every_image, volumes=volumes)):
        return 1
    before = _bytes(settings)
    done = engine_prune.everything(settings, every_image=every_image, volumes=volumes, chosen=chosen)
    images = [*(f"untagged: {name}" for name in done.untagged), *(f"deleted: {id}" for id in done.images)]
    for title, names in (
        ("Containers", done.containers),
        ("Networks", done.networks),
        ("Volumes", done.volumes),
        ("Images", images),
        ("build cache objects", list(done.builds)),
    ):
        if names:
            printer.out("\n".join([f"Deleted {title}:", *names, ""]))
    printer.out(f"Total reclaimed space: {human_size(max(0, before - _bytes(settings)))}")
    return 0


def _what_goes(*, every_image: bool, volumes: bool) -> str:
    """Say it as docker does."""
    lines = ["this will remove:", "  - all stopped containers", "  - all networks that no container is on"]
    if volumes:
        lines.append("  - all anonymous volumes that no container has")
    lines.append(f"  - all {'images that no container has' if every_image else 'dangling images'}")
    lines.append(f"  - {'all' if every_image else 'unused'} build cache")
    return "\n".join(lines)


def _bytes(settings: "Settings") -> int:
    return sum(total.size_bytes for total in space.Space(settings).totals())


COMMANDS = (
    Command(
        "system prune",
        "[OPTIONS]",
        "Remove stopped containers, and networks, images and build cache that nothing uses",
        execute=prune,
        flags=(
            Flag("all", "bool", "all images that no container has, not only those without a name", short="a"),
            Flag(
                "filter", "filter", "only what has `label=key[=value]`, has not `label!=…`, is older than `until=24h`"
            ),
            Flag("force", "bool", "do not ask", short="f"),
            Flag("volumes", "bool", "anonymous volumes that no container has as well"),
        ),
        maximum=0,
        text="`sampan system df` says how much that would be.",
        examples=(
            "sampan system prune",
            "sampan system prune -af --volumes",
            "sampan system prune -f --filter until=24h",
        ),
    ),
)
