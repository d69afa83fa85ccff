"""`sampan pull`, `push`, `login` and `logout`, and the pull that `run` and `create` do where the image is not here."""

import os
import sys

from sampan.cli import render
from sampan.cli.flags import Command, Flag, Parsed
from sampan.cli.progress import Listener
from sampan.database import connection
from sampan.errors import InvalidArgument, NotFound, Unavailable
from sampan.image import platform, push, transfer
from sampan.image.store import Images
from sampan.oci.reference import DEFAULT_DOMAIN, DEFAULT_TAG, Reference
from sampan.registry import client, credential
from sampan.registry.auth import Denied
from sampan.registry.credential import Credential
from sampan.registry.host import canonical, registry_of
from sampan.registry.transport import Transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.oci.image import Platform
    from sampan.settings.configuration import Settings

_MAX_PASSWORD = 64 * 1024


def pull(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Fetch an image and print its name, digest, and whether it is a new one."""
    reference = Reference.parse(parsed.arguments[0])
    quiet = parsed.is_set("quiet")
    if not quiet and reference.tag == DEFAULT_TAG and not parsed.arguments[0].endswith(f":{DEFAULT_TAG}"):
        printer.note(f"Using default tag: {DEFAULT_TAG}")
    wanted = _platform(parsed, settings)
    with Listener(printer, quiet=quiet) as sink, connection.open(settings) as database:
        pulled = transfer.pull(settings, database, reference, platform=wanted, sink=sink)
    if not quiet:
        status = "Downloaded newer image" if pulled.is_new else "Image is up to date"
        printer.out(f"Digest: {pulled.digest}\nStatus: {status} for {reference.familiar()}")
    printer.out(str(reference))
    return 0


def push_image(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Put an image, or with --all-tags each one of its repository, into the registry."""
    reference = Reference.parse(parsed.arguments[0])
    quiet = parsed.is_set("quiet")
    with connection.open(settings) as database:
        chosen = _tags(Images(database), reference) if parsed.is_set("all-tags") else [reference]
        for one in chosen:
            with Listener(printer, quiet=quiet) as sink:
                pushed = push.push(settings, database, one, sink=sink)
            if not quiet:
                printer.out(f"{one.tag}: digest: {pushed.digest} size: {pushed.size_bytes}")
    if quiet:
        printer.out(str(reference))
    return 0


def login(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Ask the registry whether it knows the person, and keep name and password."""
    domain = _domain(parsed)
    if not _is_known(parsed, settings, domain, printer):
        given = _given(parsed, printer)
        with Transport(settings) as transport:
            client.log_in(settings, transport, registry_of(settings, domain), given)
        path = credential.store(settings, domain, given)
        if path is not None:
            printer.warn(
                f"the password is kept unencrypted in `{path}`: a credential helper (`credsStore`) encrypts it"
            )
    printer.out("Login Succeeded")
    return 0


def logout(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Forget name and password."""
    domain = _domain(parsed)
    had = credential.erase(settings, domain)
    printer.out(f"Removing login credentials for {domain}" if had else f"Not logged in to {domain}")
    return 0


def fetch(settings: "Settings", printer: "Printer", image: str, *, parsed: Parsed) -> None:
    """Pull the image that `run` or `create` was asked for; raises what explains why it cannot be had."""
    reference = Reference.parse(image)
    wanted = _platform(parsed, settings)
    with Listener(printer, quiet=parsed.is_set("quiet")) as sink, connection.open(settings) as database:
        transfer.pull(settings, database, reference, platform=wanted, sink=sink)


def _platform(parsed: Parsed, settings: "Settings") -> "Platform | None":
    """Return --platform's, else DOCKER_DEFAULT_PLATFORM's; None for this machine's own."""
    default = settings.environment.get("DOCKER_DEFAULT_PLATFORM", "")
    return parsed.convert("platform", platform.parse) or (platform.parse(default) if default else None)


def fetch_missing(error: NotFound, settings: "Settings", printer: "Printer", image: str, *, parsed: Parsed) -> None:
    """Pull `image` if its absence is what `error` is about; else raise `error`. Hints say what was perhaps meant."""
    missing = _missing(settings, image)
    if missing is None:
        raise error
    if os.path.isdir(image):
        hint = f"`{image}` is a directory here: `sampan run ./{image}` builds and runs it"
        raise NotFound(missing.what, hints=(hint, *missing.hints)) from None
    if parsed.text("pull") == "never":
        raise NotFound(missing.what, hints=(f"`sampan pull {image}` fetches it", *missing.hints)) from None
    try:
        Reference.parse(image)
    except InvalidArgument:
        raise missing from None  # an id
    if not parsed.is_set("quiet"):
        printer.note(f"image `{image}` is not here: asking the registry")
    try:
        fetch(settings, printer, image, parsed=parsed)
    except (NotFound, Unavailable) as failure:
        failure.hints = (*failure.hints, *(hint for hint in missing.hints if hint.startswith("did you mean")))
        raise


def _missing(settings: "Settings", image: str) -> NotFound | None:
    """Return the error of an image that is not here; None where it is."""
    with connection.open(settings) as database:
        try:
            Images(database).identify(image)
        except NotFound as missing:
            return missing
    return None


def _tags(images: Images, reference: Reference) -> list[Reference]:
    """Return the names that images here have in the repository of `reference`."""
    names = (Reference.parse(name) for image in images.list() for name in image.names)
    found = sorted((name for name in names if name.name() == reference.name() and name.digest is None), key=str)
    if not found:
        raise NotFound(f"no image here is called `{reference.familiar_name()}`", hints=("`sampan images` lists them",))
    return found


def _domain(parsed: Parsed) -> str:
    """Return the registry that is meant; people also write its address."""
    word = parsed.arguments[0] if parsed.arguments else DEFAULT_DOMAIN
    domain = canonical(word.rpartition("://")[2].partition("/")[0])
    try:
        # A word without a dot is a registry here, where it would be a part of a path elsewhere.
        host = domain if {".", ":"} & set(domain) else f"{domain}:443"
        is_domain = Reference.parse(f"{host}/x").domain == host
    except InvalidArgument:
        is_domain = False
    if not is_domain:
        raise InvalidArgument(f"`{word}` is no registry", hints=("write its host, as in `sampan login ghcr.io`",))
    return domain


def _is_known(parsed: Parsed, settings: "Settings", domain: str, printer: "Printer") -> bool:
    """Tell whether what is kept already lets the person in, where no name is given."""
    if parsed.text("username") or parsed.text("password") or parsed.is_set("password-stdin"):
        return False
    known = credential.find(settings, domain)
    if known is None:
        return False
    printer.note("Authenticating with existing credentials...")
    try:
        with Transport(settings) as transport:
            client.log_in(settings, transport, registry_of(settings, domain), known)
    except Denied as error:
        printer.warn(error.what)
        return False
    return True


def _given(parsed: Parsed, printer: "Printer") -> Credential:
    """Return who the person says to be: by flags, or asked at the terminal."""
    username, password = parsed.text("username"), parsed.text("password")
    if parsed.is_set("password-stdin"):
        if password:
            raise InvalidArgument("`--password` and `--password-stdin` exclude each other")
        if not username:
            raise InvalidArgument("`--password-stdin` needs a name", hints=("`sampan login -u NAME --password-stdin`",))
        password = _read_password()
    elif password:
        printer.warn("everybody here can see a password in the arguments: `--password-stdin` reads it from a pipe")
    if not (username and password) and not os.isatty(0):
        hint = '`printf %s "$PASSWORD" | sampan login -u NAME --password-stdin`'
        raise InvalidArgument("a login asks for name and password at a terminal, and there is none", hints=(hint,))
    try:
        username = username or _ask("Username: ")
        return Credential(username, password or _ask_secret("Password: "))
    except EOFError as error:
        raise InvalidArgument("the input ended before there was a name and a password") from error


def _read_password() -> str:
    """Read stdin to its end; one line end there is not part of the password (docker login)."""
    content = sys.stdin.buffer.read(_MAX_PASSWORD + 1)
    try:
        password = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        password = ""
    if not password or len(content) > _MAX_PASSWORD:
        raise InvalidArgument("there is no password on stdin")
    return password


def _ask(question: str) -> str:
    render.write(2, question.encode())
    answer = sys.stdin.readline().strip()
    if not answer:
        raise InvalidArgument("a user name is needed")
    return answer


def _ask_secret(question: str) -> str:
    import getpass

    answer = getpass.getpass(question)
    if not answer:
        raise InvalidArgument("a password is needed")
    return answer


_SERVER = "SERVER is a registry's host, docker.io where it is left out."
COMMANDS = (
    Command(
        "pull",
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Fetch an image from a registry",
        execute=pull,
        flags=(
            Flag("platform", "string", "another platform than this machine's, as in `linux/arm64`"),
            Flag("quiet", "bool", "print the image's name only", short="q"),
        ),
        minimum=1,
        maximum=1,
        later="a all-tags disable-content-trust",
        text=(
            "Mirrors that the configuration names for the registry are asked first. What is here already is not\n"
            "fetched again, and every byte is verified."
        ),
        examples=("sampan pull python:3.13-slim", "sampan pull ghcr.io/me/app@sha256:…"),
    ),
    Command(
        "push",
        "[OPTIONS] NAME[:TAG]",
        "Put an image into a registry",
        execute=push_image,
        flags=(
            Flag("all-tags", "bool", "all tags of the repository that are here", short="a"),
            Flag("quiet", "bool", "print the image's name only", short="q"),
        ),
        minimum=1,
        maximum=1,
        later="disable-content-trust platform",
        examples=("sampan tag hello ghcr.io/me/hello:1.0", "sampan push ghcr.io/me/hello:1.0"),
    ),
    Command(
        "login",
        "[OPTIONS] [SERVER]",
        "Say to a registry who you are",
        execute=login,
        flags=(
            Flag("password", "string", "the password; better use --password-stdin", short="p"),
            Flag("password-stdin", "bool", "read the password from stdin"),
            Flag("username", "string", "the user's name", short="u"),
        ),
        maximum=1,
        text=(
            f"{_SERVER} Name and password go where docker keeps them: into\n"
            "`~/.docker/config.json`, or to the credential helper that is named there."
        ),
        examples=('printf %s "$TOKEN" | sampan login -u me --password-stdin ghcr.io',),
    ),
    Command(
        "logout",
        "[SERVER]",
        "Forget who you are to a registry",
        execute=logout,
        maximum=1,
        text=_SERVER,
        examples=("sampan logout ghcr.io",),
    ),
)
