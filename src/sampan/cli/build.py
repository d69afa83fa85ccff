"""`sampan build`: an image from a directory, by its Dockerfile where it has one, else as a Python project."""

import os
import time

from sampan.cli import image
from sampan.cli.flags import Command, Flag, Parsed
from sampan.cli.progress import Listener
from sampan.database import connection
from sampan.errors import Exhausted, InvalidArgument, NotFound, Unsupported
from sampan.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.build.builder import BuildResult
    from sampan.build.stages import Options
    from sampan.cli.render import Printer
    from sampan.database.connection import Database
    from sampan.events import Sink
    from sampan.settings.configuration import Settings

PROGRESS = ("auto", "plain", "tty", "quiet")
NETWORKS = ("default", "none", "host")
MAX_SECRET_BYTES = 500 << 10
# Flags that mean nothing without a Dockerfile, and those that mean nothing with one.
_DOCKERFILE = ("file", "build-arg", "target", "label", "pull", "secret", "network", "add-host")
_PROJECT = ("locked", "upgrade", "emit-dockerfile")
_STDIN = "-"


def build(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Build, and say what was done; with --quiet print the id alone."""
    began = time.monotonic()
    _check(parsed)
    quiet = parsed.is_set("quiet") or parsed.text("progress") == "quiet"
    content = _stdin_file() if parsed.arguments[0] == _STDIN else None
    directory = "" if content is not None else directory_of(parsed.arguments[0])
    if parsed.is_set("emit-dockerfile") and content is None:
        from sampan.build import project

        printer.out(project.emit_dockerfile(directory).rstrip("\n"))
        return 0
    with (
        _Context(directory) as place,
        Listener(printer, quiet=quiet, plain=parsed.text("progress") == "plain") as sink,
        connection.open(settings) as database,
    ):
        result = _built(parsed, settings, database, place, content=content, sink=sink)
    if path := parsed.text("iidfile"):
        with open(path, "w", encoding="utf-8") as file:
            file.write(result.image_id)
    if quiet:
        printer.out(result.image_id)
    else:
        names = ", ".join(reference.familiar() for reference in parsed.convert_all("tag", image.parse_name))
        size, seconds = human_size(result.image.size_bytes), time.monotonic() - began
        printer.note(f"built {names or result.image_id} ({size}) in {seconds:.2f} s")
    return 0


class _Context:
    """The directory to build from: the one that was named, else an empty one that goes at the end."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._made = ""

    def __enter__(self) -> str:
        if not self._path:
            import tempfile

            self._made = tempfile.mkdtemp(prefix="sampan-context-")
        return self._path or self._made

    def __exit__(self, *exception: object) -> None:
        if self._made:
            os.rmdir(self._made)


def directory_of(word: str) -> str:
    """Return the absolute path of a project directory; raises NotFound, InvalidArgument, Unsupported."""
    if "://" in word or word.startswith("git@"):
        raise Unsupported("a build context at an address is not there yet", hints=("clone it and name its directory",))
    # realpath, since `run .` shall name the project after its directory.
    path = os.path.realpath(os.path.expanduser(word))
    if os.path.isdir(path):
        return path
    if os.path.isfile(path):
        hints = (f"name the directory, and the file by `-f {word}`", "the context is often the directory here: `.`")
        raise InvalidArgument(f"`{word}` is not a directory", hints=hints)
    raise NotFound(f"there is no directory `{word}`", hints=(_near(path),))


def _near(path: str) -> str:
    """Name the directory that was perhaps meant."""
    import difflib

    parent, name = os.path.split(path)
    try:
        names = [found.name for found in os.scandir(parent) if found.is_dir()]
    except OSError:
        names = []
    if near := difflib.get_close_matches(name, names, 1):
        return f"did you mean `{os.path.join(os.path.relpath(parent), near[0])}`?"
    return "it is sought from the directory that you are in, which is `.`"


def _check(parsed: Parsed) -> None:
    """Refuse what can be seen to be wrong in the words alone."""
    if not parsed.arguments:
        raise _without_path(parsed)
    progress, network = parsed.text("progress", "auto"), parsed.text("network", "default")
    if progress not in PROGRESS:
        raise InvalidArgument(f"`--progress` cannot be `{progress}`", hints=(f"it can be {', '.join(PROGRESS)}",))
    if network not in NETWORKS:
        raise InvalidArgument(f"`--network` cannot be `{network}`", hints=(f"it can be {', '.join(NETWORKS)}",))


def _without_path(parsed: Parsed) -> InvalidArgument:
    """Explain a command line without a PATH: mostly the dot has slipped to the word before."""
    words = parsed.words("tag") or [parsed.text("file")]
    last = words[-1]
    flag = "-t" if parsed.words("tag") else "-f"
    hints = ["`sampan build .` builds what is here"]
    if last.endswith((".", "./")) and last.strip("./"):
        hints.insert(0, f"did you mean `sampan build {flag} {last.rstrip('./')} .`?")
    return InvalidArgument("`sampan build` takes the PATH of a directory, and none was given", hints=tuple(hints))


def _built(
    parsed: Parsed,
    settings: "Settings",
    database: "Database",
    directory: str,
    *,
    content: bytes | None,
    sink: "Sink",
) -> "BuildResult":
    """Build with the front-end that the directory and the flags ask for; `content` is a Dockerfile of stdin."""
    from sampan.build import builder, stages

    if content is not None or parsed.text("file") or stages.find(directory):
        _refuse(parsed, _PROJECT, "is for Python projects without a Dockerfile")
        options = _options(parsed, settings, content)
        return builder.build_dockerfile(settings, database, directory, options, sink=sink)
    _refuse(parsed, _DOCKERFILE, f"needs a Dockerfile, and there is none in `{parsed.arguments[0]}`")
    return builder.build_project(
        settings,
        database,
        directory,
        tags=parsed.convert_all("tag", image.parse_name),
        locked=parsed.is_set("locked"),
        upgrade=parsed.is_set("upgrade"),
        no_cache=parsed.is_set("no-cache"),
        sink=sink,
    )


def _refuse(parsed: Parsed, names: tuple[str, ...], why: str) -> None:
    given = next((name for name in names if name in parsed.values), "")
    if given:
        raise InvalidArgument(f"`--{given}` {why}", hints=("leave it out",))


def _options(parsed: Parsed, settings: "Settings", content: bytes | None) -> "Options":
    """Return what the flags ask of a Dockerfile's build."""
    from sampan.build import builder, stages
    from sampan.build.dockerfile.lower import Request

    arguments = dict(_argument(word, settings) for word in parsed.words("build-arg"))
    file = parsed.text("file")
    if file == _STDIN:
        content, file = _stdin(), ""
    given = {name: value for name, value in arguments.items() if value is not None}
    request = Request(
        architecture=builder.architecture(),
        target=parsed.text("target"),
        arguments=given,
        labels=dict(_pair(word, "label") for word in parsed.words("label")),
        network=parsed.text("network", "default"),
        hosts=parsed.words("add-host"),
        epoch=builder.epoch(settings, given.get("SOURCE_DATE_EPOCH", "")),
    )
    return stages.Options(
        request,
        file=os.path.expanduser(file),
        content=content,
        tags=parsed.convert_all("tag", image.parse_name),
        no_cache=parsed.is_set("no-cache"),
        is_fresh=parsed.is_set("pull"),
        secrets=dict(_secret(word, settings) for word in parsed.words("secret")),
    )


def _stdin_file() -> bytes:
    """Return the Dockerfile that is the whole of stdin: its build has an empty context."""
    content = _stdin()
    if content[:2] in {b"\x1f\x8b", b"BZ"} or content[257:262] == b"ustar":
        raise Unsupported("a build context on stdin is not there yet", hints=("unpack it and name its directory",))
    return content


def _stdin() -> bytes:
    from sampan.build.dockerfile.parser import MAX_BYTES

    if os.isatty(0):
        raise InvalidArgument("a Dockerfile does not come from a terminal", hints=("`-f FILE` reads a file",))
    with open(os.dup(0), "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise Exhausted(f"what comes on stdin is longer than {MAX_BYTES} bytes")
    return content


def _argument(word: str, settings: "Settings") -> tuple[str, str | None]:
    """Read `NAME=VALUE`, or NAME alone, whose value is the environment's."""
    name, equals, value = word.partition("=")
    if not name:
        raise InvalidArgument(
            f"`--build-arg` cannot be `{word[:60]}`", hints=("write it like `--build-arg NAME=VALUE`",)
        )
    return name, value if equals else settings.environment.get(name)


def _pair(word: str, flag: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    if not name:
        raise InvalidArgument(f"`--{flag}` cannot be `{word[:60]}`", hints=(f"write it like `--{flag} NAME=VALUE`",))
    return name, value


def _secret(word: str, settings: "Settings") -> tuple[str, bytes]:
    """Read `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`."""
    fields = dict(_pair(piece, "secret") for piece in word.split(","))
    identity = fields.get("id", "")
    source = fields.get("src") or fields.get("source") or ""
    variable = fields.get("env") or ("" if source else identity)
    hints = ("write it like `--secret id=token,src=token.txt` or `--secret id=token,env=TOKEN`",)
    if not identity or set(fields) - {"id", "src", "source", "env", "type"}:
        raise InvalidArgument("`--secret` takes `id=` with `src=` or `env=`", hints=hints)
    if source:
        try:
            with open(os.path.expanduser(source), "rb") as file:
                value = file.read(MAX_SECRET_BYTES + 1)
        except FileNotFoundError as error:
            raise NotFound(f"the secret `{identity}` has no file `{source}`", hints=hints) from error
    elif variable in settings.environment:
        value = settings.environment[variable].encode("utf-8", "surrogateescape")
    else:
        raise NotFound(f"the secret `{identity}` has neither a file nor a variable `{variable}`", hints=hints)
    if len(value) > MAX_SECRET_BYTES:
        raise Exhausted(f"the secret `{identity}` is longer than {MAX_SECRET_BYTES} bytes")
    return identity, value


COMMANDS = (
    Command(
        "build",
        "[OPTIONS] PATH | -",
        "Build an image from the Dockerfile, or the Python project, at PATH",
        execute=build,
        flags=(
            Flag("add-host", "list", "name a host for RUN, as `NAME:ADDRESS`"),
            Flag("build-arg", "list", "give an ARG its value, as `NAME=VALUE`; a NAME alone takes the environment's"),
            Flag("emit-dockerfile", "bool", "print the plan of a Python project as a Dockerfile and build nothing"),
            Flag("file", "string", "the Dockerfile, `-` for stdin", short="f"),
            Flag("iidfile", "string", "write the image's id to a file"),
            Flag("label", "list", "give the image a label, as `NAME=VALUE`"),
            Flag("load", "bool", "taken for docker's sake: the image is here anyway"),
            Flag("locked", "bool", "fail unless sampan.lock matches the Python project"),
            Flag("network", "string", f"the network of RUN: {', '.join(f'`{name}`' for name in NETWORKS)}"),
            Flag("no-cache", "bool", "build everything again"),
            Flag("progress", "string", f"{', '.join(f'`{name}`' for name in PROGRESS)}"),
            Flag("pull", "bool", "ask the registry for each base, here or not"),
            Flag("quiet", "bool", "print the image's id and nothing else", short="q"),
            Flag(
                "secret", "list", "what RUN --mount=type=secret may see: `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`"
            ),
            Flag("tag", "list", "name the image", short="t"),
            Flag("target", "string", "build this stage of the Dockerfile"),
            Flag("upgrade", "bool", "resolve a Python project's requirements and base anew"),
        ),
        maximum=1,
        later=(
            "allow annotation attest build-context builder cache-from cache-to call cgroup-parent check debug D "
            "metadata-file no-cache-filter output o platform provenance push sbom shm-size ssh ulimit"
        ),
        text=(
            "A Dockerfile means what it means to docker's BuildKit; `sampan lint` says what is not good in it.\n"
            "Without one, what stands in the directory is read, never run: application, port, Python, requirements;\n"
            "sampan.lock beside the project pins all of it, and the same lock gives the same image on every machine."
        ),
        examples=(
            "sampan build -t hello .",
            "sampan build -t app -f docker/Dockerfile --build-arg VERSION=2 --target test .",
            "sampan build --locked -t hello:1.0 ./hello",
        ),
    ),
)
