"""What an image of a project will be: base, requirements, command, environment, port. Data, made purely.

A web application is served by a production server, whatever `app.run(debug=True)` says: the file's main guard is never
run, so neither the debugger nor the reloader can be.
"""

from sampan.build.python import requirement
from sampan.build.python.detect import Choice
from sampan.errors import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.build.python.detect import Project
    from sampan.build.python.version import Release

WORKDIR = "/app"
USER = "65532:65532"
HOME = "/home/nonroot"
_PATH = "/usr/local/bin:/usr/bin:/bin"
SITE = "/usr/local/lib/python{python}/dist-packages"
ENTRYPOINT = ("/usr/bin/tini", "--")
_SERVERS = ("gunicorn", "waitress")


class Plan:
    """Everything that the image follows from, the application's files apart."""

    __slots__ = ("choices", "command", "environment", "is_served", "name", "port", "release", "requirements")

    def __init__(
        self,
        name: str,
        release: "Release",
        requirements: requirement.Requirements,
        *,
        command: tuple[str, ...],
        environment: tuple[str, ...],
        port: int | None,
        is_served: bool,
        choices: tuple[Choice, ...],
    ) -> None:
        self.name = name
        self.release = release
        self.requirements = requirements
        self.command = command
        self.environment = environment
        self.port = port
        self.is_served = is_served
        self.choices = choices

    @property
    def site(self) -> str:
        """The directory that wheels are installed into: the first of Debian's Python for what is not Debian's."""
        return SITE.format(python=self.release.python)


def make(project: "Project") -> Plan:
    """Decide how `project` becomes an image. Adds its server to the project's requirements where none is named."""
    command, is_served = _command(project)
    project.choose(
        "base",
        f"Debian {project.release.debian} ({project.release.suite})",
        "signed packages, no shell, no package manager",
    )
    project.choose(
        "user", "nonroot (65532)", f"the application cannot write to its own code; {HOME} and /tmp are its own"
    )
    return Plan(
        project.name,
        project.release,
        project.requirements,
        command=command,
        environment=_environment(project),
        port=project.port,
        is_served=is_served,
        choices=tuple(project.choices),
    )


def _command(project: "Project") -> tuple[tuple[str, ...], bool]:
    if project.command:
        program = project.command[0]
        if program in _SERVERS and program not in project.requirements.names():
            _add(project, program, "the command runs it and no requirement names it")
        return project.command, program == "gunicorn"
    if not project.target:
        return ("python", project.script), False
    named = next((server for server in _SERVERS if server in project.requirements.names()), None)
    if named:
        project.choose("server", named, f"{project.requirements.source} names it", _place_of(project, named))
    else:
        _add(
            project,
            "gunicorn",
            "the project names no server; never the debugger or the reloader, whatever app.run() says",
            "server",
        )
    return _served(named or "gunicorn", project.target, project.port or 8000), named != "waitress"


def _served(server: str, target: str, port: int) -> tuple[str, ...]:
    if server == "waitress":
        factory = ("--call",) if target.endswith("()") else ()
        return ("waitress-serve", f"--listen=0.0.0.0:{port}", *factory, target.removesuffix("()"))
    # Threads: one slow client must not block a worker. /dev/shm: a heartbeat file on a disk stalls with the disk.
    options = ("--bind", f"0.0.0.0:{port}", "--threads", "4", "--access-logfile", "-", "--worker-tmp-dir", "/dev/shm")  # noqa: S108 -- in the container
    return ("gunicorn", *options, target)


def _add(project: "Project", name: str, reason: str, what: str = "requirement") -> None:
    project.requirements.items.append(requirement.Requirement(name, name, Place("")))
    project.choose(what, name, reason)


def _place_of(project: "Project", name: str) -> Place | None:
    return next((item.place for item in project.requirements.items if item.name == name), None)


def _environment(project: "Project") -> tuple[str, ...]:
    fixed = [f"PATH={_PATH}", "LANG=C.UTF-8", f"HOME={HOME}", "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"]
    return (*fixed, f"PYTHONPATH={WORKDIR}/{project.path_entry}") if project.path_entry else tuple(fixed)
