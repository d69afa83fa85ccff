"""`sampan inspect`: everything about containers, images, networks and volumes, as docker's JSON."""

from sampan.cli import format as formats
from sampan.cli import resource
from sampan.cli.flags import Command, Flag, Parsed
from sampan.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.document import Document
    from sampan.settings.configuration import Settings

# Where a name is looked for, in docker's order.
KINDS = ("container", "image", "network", "volume")


def inspect(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Print an array of what was found; go on after an error."""
    kind = parsed.text("type")
    if kind and kind not in KINDS:
        raise InvalidArgument(f"unknown type: `{kind}`", hints=(f"types: {', '.join(KINDS)}",))
    kinds = (kind,) if kind else KINDS
    sized = parsed.is_set("size")
    return resource.inspect(parsed, printer, lambda name: _find(settings, name, kinds, sized=sized))


def _find(settings: "Settings", name: str, kinds: tuple[str, ...], *, sized: bool) -> "Document":
    """Return the first thing of that name; raises NotFound, of the one kind that was asked for or of all."""
    missing = NotFound("")
    for kind in kinds:
        try:
            return _one(settings, name, kind, sized=sized)
        except NotFound as error:
            if len(kinds) == 1:
                raise
            missing = error
    raise NotFound(
        f"there is no container, image, network or volume `{name}`",
        hints=("`sampan ps -a` lists containers, `sampan images` images",),
    ) from missing.__cause__


def _one(settings: "Settings", name: str, kind: str, *, sized: bool) -> "Document":
    match kind:
        case "container":
            from sampan.engine import inspection

            found = inspection.inspect(settings, name)
            return found | _sizes(settings, found) if sized else found
        case "image":
            from sampan.cli import image

            return image.inspect(settings, name)
        case "network":
            from sampan.engine import network

            return network.inspect(settings, name)
        case _:
            from sampan.engine import volume

            return volume.inspect(settings, name)


def _sizes(settings: "Settings", found: "Document") -> "Document":
    from sampan.engine import space

    own, whole = space.sizes(settings, [(found["Id"], found["Image"])])[found["Id"]]
    return {"SizeRw": own, "SizeRootFs": whole}


COMMANDS = (
    Command(
        "inspect",
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Show everything about containers, images, networks or volumes, as JSON",
        execute=inspect,
        flags=(
            Flag("format", "string", formats.INSPECT_HELP, short="f"),
            Flag("size", "bool", "of a container, how much it has written, and that with its image", short="s"),
            Flag("type", "string", "look only among `container`, `image`, `network` or `volume`"),
        ),
        minimum=1,
        examples=(
            "sampan inspect web",
            "sampan inspect -f '{{.State.Status}}' web",
            "sampan inspect --type image --format json hello",
        ),
    ),
)
