"""`sampan import`, `save` and `load`: images from and to files and pipes."""

import os
import sys
import time

from sampan.cli import image
from sampan.cli.flags import Command, Flag, Parsed
from sampan.database import connection
from sampan.errors import InvalidArgument, NotFound, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings


def import_root(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Make an image of a root file system's tar and print its id."""
    from sampan.image import importer

    source = parsed.arguments[0]
    if "://" in source:
        raise Unsupported("an import from an address is not there yet", hints=("download it, then import the file",))
    reference = image.parse_name(parsed.arguments[1]) if len(parsed.arguments) > 1 else None
    with connection.open(settings) as database, _open_input(source) as stream:
        made = importer.import_root(
            database,
            stream,
            reference,
            now=time.clock_gettime(time.CLOCK_REALTIME),
            changes=parsed.words("change"),
            message=parsed.text("message") or f"Imported from {source}",
        )
    printer.out(made.id)
    return 0


def save(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:  # noqa: ARG001  every command's shape
    """Write images as one OCI archive that docker load reads too."""
    from sampan.image import archive

    path = parsed.text("output")
    if not path and os.isatty(1):
        raise InvalidArgument(
            "an archive does not belong on a terminal",
            hints=(f"`sampan save -o image.tar {' '.join(parsed.arguments)}` writes a file",),
        )
    with connection.open(settings) as database:
        if path:
            to_file(path, lambda file: archive.save(database, parsed.arguments, file))
        else:
            archive.save(database, parsed.arguments, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    return 0


def to_file(path: str, write: "Callable[[BinaryIO], object]") -> None:
    """Write an archive beside `path`, then move it there: one that fails leaves what was there before."""
    if os.path.exists(path) and not os.path.isfile(path):
        # A device or a pipe is written as it is.
        with open(path, "wb") as file:
            write(file)
        return
    partial = f"{path}.partial-{os.getpid()}"
    try:
        with open(partial, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(partial, path)
    except BaseException:
        if os.path.lexists(partial):
            os.unlink(partial)
        raise


def load(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Read the images of an archive and print what came."""
    from sampan.image import archive

    path = parsed.text("input", "-")
    if path == "-" and os.isatty(0):
        raise InvalidArgument("an archive does not come from a terminal", hints=("`sampan load -i FILE` reads a file",))
    with connection.open(settings) as database, _open_input(path) as stream:
        loaded = archive.load(database, stream)
    for one in loaded:
        for name in one.names:
            printer.out(f"Loaded image: {name.familiar()}")
        if not one.names:
            printer.out(f"Loaded image ID: {one.image.id}")
    return 0


def _open_input(path: str) -> "BinaryIO":
    """Open a file, or stdin for `-`; raises NotFound."""
    if path == "-":
        return open(os.dup(0), "rb")
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no file `{path}`", hints=("it is sought from the directory that you are in; `-` is stdin",)
        ) from error
    except IsADirectoryError as error:
        raise InvalidArgument(f"`{path}` is a directory", hints=(f"`tar -C {path} -c . | sampan import -`",)) from error


COMMANDS = (
    Command(
        "import",
        "[OPTIONS] FILE|- [REPOSITORY[:TAG]]",
        "Make an image of the tar of a root file system",
        execute=import_root,
        flags=(
            Flag("change", "list", 'apply an instruction such as `CMD ["sh"]` or `ENV A=b`', short="c"),
            Flag("message", "string", "write a message into the image's history", short="m"),
        ),
        minimum=1,
        maximum=2,
        later="platform",
        examples=("sampan import busybox.tar busybox", "tar -C root -c . | sampan import -c 'CMD [\"sh\"]' - base:1"),
    ),
    Command(
        "save",
        "[OPTIONS] IMAGE [IMAGE...]",
        "Write images as an OCI archive, which docker load reads too",
        execute=save,
        flags=(Flag("output", "string", "write to a file instead of stdout", short="o"),),
        minimum=1,
        later="platform",
        examples=("sampan save -o hello.tar hello", "sampan save hello | ssh server sampan load"),
    ),
    Command(
        "load",
        "[OPTIONS]",
        "Read images from an OCI or docker archive",
        execute=load,
        flags=(
            Flag("input", "string", "read a file instead of stdin", short="i"),
            Flag("quiet", "bool", "print no progress", short="q"),
        ),
        maximum=0,
        later="platform",
        examples=("sampan load -i hello.tar",),
    ),
)
