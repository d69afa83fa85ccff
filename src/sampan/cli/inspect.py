"""`sampan inspect`: everything about containers and images, as docker's JSON."""

from sampan.cli import format as formats
from sampan.cli import resource
from sampan.cli.flags import Command, Flag, Parsed
from sampan.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.document import Document
    from sampan.settings.configuration import Settings

KINDS = ("container", "image")


def inspect(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Print an array of what was found; go on after an error."""
    kind = parsed.text("type")
    if kind and kind not in KINDS:
        raise InvalidArgument(f"unknown type: `{kind}`", hints=(f"types: {', '.join(KINDS)}",))
    return resource.inspect(parsed, printer, lambda name: _find(settings, name, kind, has_size=parsed.is_set("size")))


def _find(settings: "Settings", name: str, kind: str, *, has_size: bool) -> "Document":
    """Return the container, else the image, of that name."""
    if kind != "image":
        from sampan.engine import inspection

        try:
            found = inspection.inspect(settings, name)
            return found | _sizes(settings, found) if has_size else found
        except NotFound:
            if kind == "container":
                raise
    from sampan.cli import image

    try:
        return image.inspect(settings, name)
    except NotFound as error:
        if kind == "image":
            raise
        raise NotFound(
            f"there is no container or image `{name}`",
            hints=("`sampan ps -a` lists containers, `sampan images` images",),
        ) from error.__cause__


def _sizes(settings: "Settings", found: "Document") -> "Document":
    from sampan.engine import space

    own, whole = space.sizes(settings, [(found["Id"], found["Image"])])[found["Id"]]
    return {"SizeRw": own, "SizeRootFs": whole}


COMMANDS = (
    Command(
        "inspect",
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Show everything about containers or images, as JSON",
        execute=inspect,
        flags=(
            Flag("format", "string", formats.INSPECT_HELP, short="f"),
            Flag("size", "bool", "also what a container has written, and that with its image", short="s"),
            Flag("type", "string", "look only among `container` or `image`"),
        ),
        minimum=1,
        examples=(
            "sampan inspect web",
            "sampan inspect -f '{{.State.Status}}' web",
            "sampan inspect --type image --format json hello",
        ),
    ),
)
