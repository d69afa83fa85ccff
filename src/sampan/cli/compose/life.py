"""`sampan compose up`, `down`, `create`, `start`, `stop`, `restart`, `kill`, `rm`, `wait`, `build`, `pull`."""

from sampan.cli.compose import selection
from sampan.cli.compose.progress import Telling
from sampan.cli.compose.source import ImageSource
from sampan.cli.compose.work import Work, orphans, parallel
from sampan.cli.flags import Command, Flag, Parsed, UsageError
from sampan.compose import readiness, reconcile, sight, teardown, wish
from sampan.compose.crew import Say
from sampan.compose.model import order
from sampan.compose.reconcile import Choice
from sampan.database import connection
from sampan.engine import container
from sampan.errors import Conflict, InvalidArgument, NotFound, SampanError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.compose.model.project import Project
    from sampan.compose.sight import Seen
    from sampan.settings.configuration import Settings


def up(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Make the project what its files say; in the foreground show its output until it ends or Ctrl-C."""
    _refuse_contradictions(parsed)
    project = selection.load(parsed, settings, printer, parsed.arguments)
    work = Work(parsed, settings, printer, project)
    services = work.chosen(parsed.arguments, with_dependencies=not parsed.is_set("no-deps"))
    is_detached = parsed.is_set("detach") or parsed.is_set("wait") or parsed.is_set("no-start")
    source = parsed.text("exit-code-from")
    if source and source not in project.services:
        raise InvalidArgument(f"no such service: `{source}`")
    images = work.images(services)
    if is_detached:
        started = work.converge(services, images)
        if parsed.is_set("wait"):
            names = [name for told in started.values() for name in told]
            seconds = parsed.number("wait-timeout")
            readiness.wait_ready(settings, names, work.say, timeout_seconds=seconds)
        return 0
    from sampan.cli.compose import foreground  # only where somebody watches

    return foreground.up(work, services, images)


def create(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Make what `up` would make, and start nothing."""
    project = selection.load(parsed, settings, printer, parsed.arguments)
    work = Work(parsed, settings, printer, project, is_started=False)
    services = work.chosen(parsed.arguments, with_dependencies=True)
    work.converge(services, work.images(services))
    return 0


def _refuse_contradictions(parsed: Parsed) -> None:
    pairs = (
        ("build", "no-build"), ("force-recreate", "no-recreate"), ("detach", "abort-on-container-exit"),
        ("detach", "exit-code-from"), ("wait", "abort-on-container-exit"),
    )  # fmt: skip
    for one, other in pairs:
        if one in parsed.values and other in parsed.values:
            raise UsageError(f"`--{one}` and `--{other}` exclude each other", hints=("give one of them",))


def down(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Remove the project's containers and networks; with --volumes its volumes, with --rmi its images."""
    project, name = _project_or_name(parsed, settings, printer)
    say = Telling(printer, parsed)
    seen = sight.containers(settings, name)
    services = project.services | project.disabled if project else {}
    if project and parsed.arguments:
        seen = [one for one in seen if one.service in parsed.arguments]
    elif project and not parsed.is_set("remove-orphans"):
        left = [one for one in seen if one.service not in services and not one.is_one_off]
        orphans(parsed, project, settings, left, say)
        seen = [one for one in seen if one not in left]
    everything = parsed.is_set("volumes")
    act = teardown.remove(settings, parsed.number("timeout"), volumes=everything)
    teardown.each(services, seen, act, say, parallel=parallel(parsed, settings))
    if parsed.arguments:
        return 0
    teardown.networks(settings, name, say)
    if everything:
        teardown.volumes(settings, name, say)
    teardown.forget(settings, name)
    if project and (which := parsed.text("rmi")):
        _remove_images(settings, project, which, say)
    return 0


def _remove_images(settings: "Settings", project: "Project", which: str, say: Say) -> None:
    from sampan.image import removal  # rarely wanted

    if which not in {"all", "local"}:
        raise UsageError(f"`--rmi` cannot be `{which}`", hints=("write `--rmi all` or `--rmi local`",))
    for service in project.services.values():
        if which == "local" and service.image:
            continue
        name = wish.image_name(project, service)
        try:
            with connection.open(settings) as database:
                removal.remove(database, name)
        except NotFound:
            continue
        except Conflict:
            say(f"Image {name}", "Resource is still in use")
            continue
        say(f"Image {name}", "Removed")


def _project_or_name(parsed: Parsed, settings: "Settings", printer: "Printer") -> "tuple[Project | None, str]":
    """Return the project; with `-p` and without a file its name is enough."""
    try:
        project = selection.load(parsed, settings, printer, parsed.arguments)
    except NotFound:
        name = parsed.outer.text("project-name") if parsed.outer else ""
        if not name or (parsed.outer and parsed.outer.words("file")):
            raise
        return None, name
    return project, project.name


def members(parsed: Parsed, settings: "Settings", printer: "Printer") -> "tuple[Project | None, list[Seen]]":
    """Return the containers of the services that are named, or of all."""
    project, name = _project_or_name(parsed, settings, printer)
    seen = [one for one in sight.containers(settings, name) if not one.is_one_off]
    return project, [one for one in seen if not parsed.arguments or one.service in parsed.arguments]


def start(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Start the containers that are there."""
    project = selection.load(parsed, settings, printer, parsed.arguments)
    names = parsed.arguments or list(project.services)
    seen = sight.containers(settings, project.name)
    choice = Choice(recreates_none=True, scale={}, parallel=parallel(parsed, settings))
    actions = {}
    for name in order.with_dependencies(project.services, names):
        own = [one for one in seen if one.service == name and not one.is_one_off]
        if not own and name in names:
            raise NotFound(
                f"the service `{name}` has no container to start", hints=(f"`sampan compose up -d {name}` makes one",)
            )
        service = project.services[name]
        exact = Choice(recreates_none=True, scale={name: len(own)}, parallel=choice.parallel)
        actions[name] = reconcile.plan(project, service, own, "", exact)
    say = Telling(printer, parsed)
    images = dict.fromkeys(actions, "")
    reconcile.Up(settings=settings, project=project, choice=choice, images=images).converge(actions, say)
    return 0


def stop(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Stop containers."""
    project, seen = members(parsed, settings, printer)
    services = project.services if project else {}
    act = teardown.stop(settings, parsed.number("timeout"))
    teardown.each(services, seen, act, Telling(printer, parsed), parallel=parallel(parsed, settings))
    return 0


def restart(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Stop and start containers."""
    _, seen = members(parsed, settings, printer)
    seconds = parsed.number("timeout")

    def act(one: "Seen", say: Say) -> None:
        say(f"Container {one.name}", "Restarting")
        container.restart(settings, one.id, seconds)
        say(f"Container {one.name}", "Started")

    teardown.each({}, seen, act, Telling(printer, parsed), parallel=parallel(parsed, settings))
    return 0


def kill(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Send a signal to containers."""
    _, seen = members(parsed, settings, printer)
    act = teardown.kill(settings, parsed.text("signal", "KILL"))
    teardown.each({}, seen, act, Telling(printer, parsed), parallel=parallel(parsed, settings))
    return 0


def rm(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Remove stopped containers; with --stop those that run too."""
    _, seen = members(parsed, settings, printer)
    chosen = [one for one in seen if parsed.is_set("stop") or not one.is_running]
    if not chosen:
        printer.note("No stopped containers")
        return 0
    if not parsed.is_set("force") and not _confirmed(chosen, printer):
        return 0
    act = teardown.remove(settings, None, volumes=parsed.is_set("volumes"))
    teardown.each({}, chosen, act, Telling(printer, parsed), parallel=parallel(parsed, settings))
    return 0


def _confirmed(chosen: "list[Seen]", printer: "Printer") -> bool:
    """Ask before something is removed, as docker does."""
    printer.note(f"Going to remove {', '.join(one.name for one in chosen)}")
    printer.note("Are you sure? [yN]")
    with open(0, encoding="utf-8", errors="replace", closefd=False) as words:
        return words.readline().strip().lower() in {"y", "yes"}


def wait(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Wait until the first of these services' containers ends; return its status."""
    _, seen = members(parsed, settings, printer)
    status = 0
    for one in seen:
        status = container.wait(settings, one.id)
        printer.out(str(status))
    return status


def build(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Build the images of the services that have a build context."""
    project = selection.load(parsed, settings, printer, parsed.arguments)
    quiet = parsed.is_set("quiet")
    source = ImageSource(settings, printer, quiet=quiet, no_cache=parsed.is_set("no-cache"))
    for name in parsed.arguments or list(project.services):
        service = project.services[name]
        if service.build is None:
            continue
        try:
            source.build(service, wish.image_name(project, service))
        except SampanError as error:
            error.at = error.at or service.place("build")
            raise
        if not quiet:
            printer.note(f" {wish.image_name(project, service)}  Built")
    return 0


def pull(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Fetch the images of the services that are not built."""
    project = selection.load(parsed, settings, printer, parsed.arguments)
    source = ImageSource(settings, printer, quiet=parsed.is_set("quiet"))
    status = 0
    for name in parsed.arguments or list(project.services):
        service = project.services[name]
        if service.build is not None:
            continue
        try:
            source.pull(service, wish.image_name(project, service))
        except SampanError as error:
            error.at = error.at or service.place("image")
            if not parsed.is_set("ignore-pull-failures"):
                raise
            printer.error(error)
            status = 1
    return status


def not_there(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:  # noqa: ARG001  every command's shape
    """Say that a command of docker compose is not there yet."""
    raise Unsupported(f"`sampan {parsed.command.name}` is not there yet")


_TIMEOUT = Flag("timeout", "int", "seconds until a container is killed (default: its own, 10)", short="t")
_SERVICES = "[OPTIONS] [SERVICE...]"
_MAKING = (
    Flag("build", "bool", "build images before"),
    Flag("force-recreate", "bool", "make containers anew that have not changed"),
    Flag("no-build", "bool", "build nothing, even where an image is missing"),
    Flag("no-recreate", "bool", "leave containers that are there as they are"),
    Flag("pull", "string", "`always`, `missing`, `never` or `build`"),
    Flag("quiet-build", "bool", "build without progress"),
    Flag("quiet-pull", "bool", "fetch without progress"),
    Flag("remove-orphans", "bool", "remove containers of services that are not in the file any more"),
    Flag("scale", "list", "how many containers a service has (`web=3`)"),
)
COMMANDS = (
    Command(
        "compose up",
        _SERVICES,
        "Create and start the project's containers, and show their output",
        execute=up,
        flags=(
            Flag("abort-on-container-exit", "bool", "stop all when one ends"),
            Flag("abort-on-container-failure", "bool", "stop all when one fails"),
            Flag("attach", "list", "show the output of this service only"),
            Flag("detach", "bool", "go on in the background", short="d"),
            Flag("exit-code-from", "string", "end with this service's status; stops all when it ends"),
            *_MAKING,
            Flag("no-attach", "list", "do not show this service's output"),
            Flag("no-color", "bool", "print without colours"),
            Flag("no-deps", "bool", "do not start what the services wait for"),
            Flag("no-log-prefix", "bool", "print no names before the lines"),
            Flag("no-start", "bool", "make the containers and start none"),
            Flag("quiet", "bool", "print no progress"),
            Flag("renew-anon-volumes", "bool", "do not keep the anonymous volumes of containers made anew", short="V"),
            _TIMEOUT,
            Flag("timestamps", "bool", "put the time before each line"),
            Flag(
                "wait", "bool", "wait until all run, and are healthy where that is checked; goes on in the background"
            ),
            Flag("wait-timeout", "int", "how many seconds to wait"),
        ),
        later="always-recreate-deps attach-dependencies dry-run menu watch w y yes",
        text="Nothing is touched that is already as the file says; a service that changed is made anew.",
        examples=("sampan compose up -d", "sampan compose up --build web", "sampan compose up -d --wait --scale web=2"),
    ),
    Command(
        "compose down",
        _SERVICES,
        "Stop and remove the project's containers and networks",
        execute=down,
        flags=(
            Flag("remove-orphans", "bool", "remove containers of services that are not in the file any more"),
            Flag("rmi", "string", "remove images: `local` are those without a name of their own, or `all`"),
            _TIMEOUT,
            Flag("volumes", "bool", "remove the named volumes of the file, and anonymous ones", short="v"),
        ),
        later="dry-run",
        examples=("sampan compose down", "sampan compose down -v"),
    ),
    Command(
        "compose create",
        _SERVICES,
        "Create the project's containers without starting them",
        execute=create,
        flags=_MAKING,
        later="dry-run y yes",
    ),
    Command("compose start", _SERVICES, "Start containers that are stopped or new", execute=start),
    Command(
        "compose stop",
        _SERVICES,
        "Ask containers to end, and kill them after a time-out",
        execute=stop,
        flags=(_TIMEOUT,),
    ),
    Command(
        "compose restart",
        _SERVICES,
        "Stop containers and start them again",
        execute=restart,
        flags=(Flag("no-deps", "bool", "taken for docker's sake"), _TIMEOUT),
    ),
    Command(
        "compose kill",
        _SERVICES,
        "Send a signal to containers, SIGKILL unless another is named",
        execute=kill,
        flags=(Flag("signal", "string", "name or number of the signal", short="s"),),
        later="remove-orphans",
    ),
    Command(
        "compose rm",
        _SERVICES,
        "Remove stopped containers",
        execute=rm,
        flags=(
            Flag("force", "bool", "do not ask", short="f"),
            Flag("stop", "bool", "stop those that run, and remove them too", short="s"),
            Flag("volumes", "bool", "remove their anonymous volumes too", short="v"),
        ),
    ),
    Command("compose wait", "SERVICE [SERVICE...]", "Wait until containers end", execute=wait, minimum=1),
    Command(
        "compose build",
        _SERVICES,
        "Build the images of the services that have a build context",
        execute=build,
        flags=(
            Flag("no-cache", "bool", "build everything again"),
            Flag("quiet", "bool", "print no progress", short="q"),
        ),
        later="build-arg builder check m memory print progress provenance pull push sbom ssh with-dependencies",
    ),
    Command(
        "compose pull",
        _SERVICES,
        "Fetch the images of the services",
        execute=pull,
        flags=(
            Flag("ignore-pull-failures", "bool", "go on with the others"),
            Flag("quiet", "bool", "print no progress", short="q"),
        ),
        later="ignore-buildable include-deps policy",
    ),
    *(
        Command(f"compose {word}", "[OPTIONS] [ARG...]", "Not there yet", execute=not_there, interspersed=False)
        for word in ("attach", "cp", "events", "push", "watch")
    ),
)
