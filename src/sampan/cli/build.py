"""`sampan build`: an image from a project directory."""

import os
import time

from sampan.cli import image
from sampan.cli.flags import Command, Flag, Parsed
from sampan.cli.progress import Listener
from sampan.database import connection
from sampan.errors import InvalidArgument, NotFound, Unsupported
from sampan.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings


def build(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Build, and say what was found and why; with --quiet print the id alone."""
    from sampan.build import builder

    began = time.monotonic()
    directory = directory_of(parsed.arguments[0])
    if parsed.is_set("emit-dockerfile"):
        printer.out(builder.emit_dockerfile(directory).rstrip("\n"))
        return 0
    quiet = parsed.is_set("quiet") or parsed.text("progress") == "quiet"
    tags = parsed.convert_all("tag", image.parse_name)
    with Listener(printer, quiet=quiet) as sink, connection.open(settings) as database:
        result = builder.build(
            settings,
            database,
            directory,
            tags=tags,
            locked=parsed.is_set("locked"),
            upgrade=parsed.is_set("upgrade"),
            no_cache=parsed.is_set("no-cache"),
            sink=sink,
        )
    if path := parsed.text("iidfile"):
        with open(path, "w", encoding="utf-8") as file:
            file.write(result.image_id)
    if quiet:
        printer.out(result.image_id)
    else:
        names = ", ".join(reference.familiar() for reference in tags)
        size, seconds = human_size(result.image.size_bytes), time.monotonic() - began
        printer.note(f"built {names or result.image_id} ({size}) in {seconds:.2f} s")
    return 0


def directory_of(word: str) -> str:
    """Return the absolute path of a project directory; raises NotFound, InvalidArgument, Unsupported."""
    if word == "-":
        raise Unsupported("a build context on stdin is not there yet", hints=("unpack it and name its directory",))
    if "://" in word or word.startswith("git@"):
        raise Unsupported("a build context at an address is not there yet", hints=("clone it and name its directory",))
    # realpath, since `run .` shall name the project after its directory.
    path = os.path.realpath(os.path.expanduser(word))
    if os.path.isdir(path):
        return path
    if os.path.exists(path):
        raise InvalidArgument(f"`{word}` is not a directory", hints=("name the directory that the project is in",))
    raise NotFound(f"there is no directory `{word}`")


COMMANDS = (
    Command(
        "build",
        "[OPTIONS] PATH",
        "Build an image from the Python project at PATH",
        execute=build,
        flags=(
            Flag("emit-dockerfile", "bool", "print the plan as a Dockerfile and build nothing"),
            Flag("iidfile", "string", "write the image's id to a file"),
            Flag("load", "bool", "taken for docker's sake: the image is here anyway"),
            Flag("locked", "bool", "fail unless sampan.lock matches the project"),
            Flag("no-cache", "bool", "build everything again"),
            Flag("progress", "string", "`auto`, `plain` or `quiet`"),
            Flag("quiet", "bool", "print the image's id and nothing else", short="q"),
            Flag("tag", "list", "name the image", short="t"),
            Flag("upgrade", "bool", "resolve the requirements and the base anew"),
        ),
        minimum=1,
        maximum=1,
        later=(
            "add-host allow annotation attest build-arg build-context builder cache-from cache-to call cgroup-parent "
            "check debug D file f label metadata-file network no-cache-filter output o platform provenance pull push "
            "sbom secret shm-size ssh target ulimit"
        ),
        text=(
            "What stands in the directory is read, never run: application, port, Python, requirements.\n"
            "sampan.lock beside the project pins all of it; the same lock gives the same image on every machine."
        ),
        examples=("sampan build -t hello .", "sampan build --locked -t hello:1.0 ./hello", "sampan build -q ."),
    ),
)
