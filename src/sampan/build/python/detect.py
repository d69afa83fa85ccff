"""What stands in a directory: application, script, port, Python version, requirements. Pure; nothing is run.

`detect` takes file names with the contents of those that `is_interesting` names, and returns a `Project` whose every
finding is a `Choice`: what was chosen, why, and the line that says so. [tool.sampan] in pyproject.toml overrides each:
`app = "module:name"`, `command = ["…"]`, `port = 8000`, `python = "3.11"`.
"""

from sampan.build.python import procfile, requirement, syntax, version
from sampan.errors import InvalidArgument, NotFound, Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

MAX_FILE_BYTES = 1 << 20
MAX_FILES = 500
FLASK_PORT = 5000
_FIRST = ("wsgi", "app", "main", "application", "server", "run", "__main__")
_OBJECT_NAMES = ("app", "application")
_KEYS = ("app", "command", "port", "python")
_SKIPPED = ("test", "tests", "docs", "examples", "migrations", "scripts", "tools", "node_modules")


class Choice:
    """A decision: `what` was decided, its `value`, the `reason`, and the `place` that says so where there is one."""

    __slots__ = ("place", "reason", "value", "what")

    def __init__(self, what: str, value: str, reason: str, place: Place | None = None) -> None:
        self.what = what
        self.value = value
        self.reason = reason
        self.place = place

    def text(self) -> str:
        """Say it: `5000: app.run() names it (app.py:10)`."""
        where = f" ({self.place.path}:{self.place.line})" if self.place and self.place.line else ""
        return f"{self.value}: {self.reason}{where}"


class Project:
    """What was found: `target` is a WSGI application (`module:name`, `()` for a factory), `script` a file to run."""

    __slots__ = ("choices", "command", "name", "path_entry", "port", "release", "requirements", "script", "target")

    def __init__(self, name: str) -> None:
        self.name = name
        self.choices: list[Choice] = []
        self.target = ""
        self.script = ""
        self.command: tuple[str, ...] = ()
        self.path_entry = ""
        self.port: int | None = None
        self.release = version.RELEASES[0]
        self.requirements = requirement.Requirements("")

    def choose(self, what: str, value: str, reason: str, place: Place | None = None) -> None:
        """Record a decision."""
        self.choices.append(Choice(what, value, reason, place))


def is_interesting(path: str) -> bool:
    """Tell whether `detect` wants the content of the file `path` (relative, with `/`)."""
    parts = path.split("/")
    name = parts[-1]
    if name.endswith(".py"):
        inner = parts[1:] if parts[0] == "src" else parts
        return len(inner) <= 2 and not any(part in _SKIPPED for part in parts[:-1])
    if name.endswith((".txt", ".in")):
        return len(parts) <= 2
    return path in {"pyproject.toml", ".python-version", "runtime.txt", "Procfile", ".flaskenv"}


def detect(name: str, files: "Mapping[str, bytes]", others: "Sequence[str]" = ()) -> Project:
    """Find out what the project `name` is from `files` (contents) and the names of all `others`.

    Raises NotFound where it is no Python project, InvalidArgument with a place where something in it is wrong.
    """
    project = Project(name)
    table = _pyproject(files)
    tool = _tool(table)
    _application(project, files, tool, table)
    _python(project, files, tool, table)
    _requirements(project, files, table)
    if not (project.target or project.script or project.command):
        raise _nothing(name, files, others)
    _port(project, files, tool)
    return project


def _pyproject(files: "Mapping[str, bytes]") -> "dict[str, Any]":
    content = files.get("pyproject.toml")
    if content is None:
        return {}
    import tomllib  # 13 ms, so only where there is one

    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument("`pyproject.toml` is not TOML", at=Place("pyproject.toml")) from error


def _tool(table: "dict[str, Any]") -> "dict[str, Any]":
    """Return [tool.sampan], its keys checked."""
    tool = _table(_table(table, "tool"), "sampan")
    for key in tool:
        if key not in _KEYS:
            import difflib

            near = difflib.get_close_matches(key, _KEYS, 1)
            hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(_KEYS)}"
            raise InvalidArgument(f"[tool.sampan] has no key `{key}`", hints=(hint,), at=Place("pyproject.toml"))
    for key, kind in (("app", str), ("python", str), ("port", int), ("command", list)):
        if key in tool and (not isinstance(tool[key], kind) or isinstance(tool[key], bool)):
            raise InvalidArgument(f"`{key}` of [tool.sampan] must be a {kind.__name__}", at=Place("pyproject.toml"))
    return tool


def _table(table: "dict[str, Any]", key: str) -> "dict[str, Any]":
    value = table.get(key, {})
    return value if isinstance(value, dict) else {}


# ------------------------------------------------------------------------------------------------ the application
def _application(
    project: Project, files: "Mapping[str, bytes]", tool: "dict[str, Any]", table: "dict[str, Any]"
) -> None:
    """Set target, script or command: from [tool.sampan], Procfile, Flask object, script, entry point, in this order."""
    place = Place("pyproject.toml", syntax_line(files, "pyproject.toml", "tool.sampan"))
    if "command" in tool:
        project.command = tuple(str(word) for word in tool["command"])
        project.choose("command", " ".join(project.command), "[tool.sampan] says so", place)
        return
    if "app" in tool:
        project.target = tool["app"]
        project.path_entry = "src" if _in_src(project.target.partition(":")[0], files) else ""
        project.choose("application", project.target, "[tool.sampan] says so", place)
        return
    web = procfile.web(files.get("Procfile"))
    if web is not None:
        project.command = web.words
        project.choose("command", " ".join(web.words), "the Procfile's web process", web.place)
        return
    modules, broken = _modules(files)
    if not (_flask(project, files, modules) or _script(project, files, modules, broken)):
        _entry_point(project, files, table)
    found = project.target or project.script or project.command
    # A file by a well-known name that cannot be read is more likely the application than whatever else was found.
    first = next((error for path, error in broken if not found or _stem(path) in _FIRST), None)
    if first is not None:
        raise first


def _modules(files: "Mapping[str, bytes]") -> "tuple[dict[str, syntax.Module], list[tuple[str, InvalidArgument]]]":
    """Read every Python file, likely ones first; those that cannot be read come back with their errors."""
    modules: dict[str, syntax.Module] = {}
    broken = []
    for path in sorted((path for path in files if path.endswith(".py")), key=_rank)[:MAX_FILES]:
        try:
            modules[path] = syntax.read(path, files[path])
        except InvalidArgument as error:
            broken.append((path, error))
    return modules, broken


def _rank(path: str) -> tuple[int, int, int, str]:
    """Order files by how likely the application stands in them."""
    stem = _stem(path)
    known = _FIRST.index(stem) if stem in _FIRST else len(_FIRST)
    is_test = stem.startswith("test_") or stem.endswith("_test") or stem in {"setup", "conftest"}
    return (is_test, path.count("/") - path.startswith("src/"), known, path)


def _stem(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".py")


def _flask(project: Project, files: "Mapping[str, bytes]", modules: "Mapping[str, syntax.Module]") -> bool:
    """Find the Flask object, else a factory that needs no arguments."""
    for path, module in modules.items():
        if module.objects:
            best = min(module.objects, key=lambda item: (item.name not in _OBJECT_NAMES, item.line))
            _found_flask(project, files, path, best, "a Flask object is bound here")
            return True
    for path, module in modules.items():
        if module.factories:
            best = min(module.factories, key=lambda item: (item.name not in {"create_app", "make_app"}, item.line))
            _found_flask(project, files, path, best, "a function here makes the Flask object", call="()")
            return True
    for path, module in modules.items():
        for item in module.needs:
            at = Place(path, item.line, syntax.line_of(files[path], item.line))
            hints = (f"give its parameters defaults, or add a wsgi.py with `app = {item.name}(…)`",)
            raise InvalidArgument(
                f"`{item.name}` makes the Flask object, but cannot be called without arguments", hints=hints, at=at
            )
    return False


def _found_flask(
    project: Project,
    files: "Mapping[str, bytes]",
    path: str,
    item: syntax.Named,
    reason: str,
    *,
    call: str = "",
) -> None:
    project.path_entry = "src" if path.startswith("src/") else ""
    dotted = path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    project.target = f"{dotted}:{item.name}{call}"
    project.choose(
        "application", project.target, reason, Place(path, item.line, syntax.line_of(files[path], item.line))
    )


def _script(
    project: Project,
    files: "Mapping[str, bytes]",
    modules: "Mapping[str, syntax.Module]",
    broken: "Sequence[tuple[str, object]]",
) -> bool:
    """Find the one script to run: a main guard in a file of a usual name, the only guard, or the only file."""
    top = [path for path in modules if "/" not in path and _rank(path)[0] == 0]
    guarded = [path for path in top if modules[path].guard_line is not None]
    usual = [path for path in top if _stem(path) in _FIRST]
    if usual:
        best = next((path for path in usual if path in guarded), usual[0])
        reason = "a script by its usual name"
    elif len(guarded) == 1:
        best, reason = guarded[0], "the only file with a main guard"
    elif len(top) == 1 and not broken:
        best, reason = top[0], "the only Python file here"
    elif len(guarded) > 1:
        names = ", ".join(f"`{path}`" for path in guarded[:5])
        hint = 'say which in pyproject.toml: `[tool.sampan]` with `command = ["python", "NAME.py"]`'
        raise InvalidArgument(f"several scripts here could be meant: {names}", hints=(hint,))
    else:
        return False
    project.script = best
    line = modules[best].guard_line or 1
    project.choose("script", best, reason, Place(best, line, syntax.line_of(files[best], line)))
    return True


def _entry_point(project: Project, files: "Mapping[str, bytes]", table: "dict[str, Any]") -> None:
    """Take the only script of [project.scripts]."""
    scripts = _table(_table(table, "project"), "scripts")
    if len(scripts) != 1:
        return
    [(name, value)] = scripts.items()
    module, _, function = str(value).partition(":")
    if not all(part.isidentifier() for part in f"{module}.{function}".split(".")):
        raise InvalidArgument(f"`{value}` is not an entry point", at=Place("pyproject.toml"))
    head = function.partition(".")[0]
    project.path_entry = "src" if _in_src(module, files) else ""
    project.command = ("python", "-c", f"import sys; from {module} import {head}; sys.exit({function}())")
    place = Place("pyproject.toml", syntax_line(files, "pyproject.toml", name))
    project.choose("command", name, "the only script of [project.scripts]", place)


def _in_src(module: str, files: "Mapping[str, bytes]") -> bool:
    head = module.partition(".")[0]
    return f"src/{head}/__init__.py" in files or f"src/{head}.py" in files


def syntax_line(files: "Mapping[str, bytes]", path: str, text: str) -> int | None:
    """Return the first line of `path` that holds `text`."""
    lines = files.get(path, b"").decode(errors="replace").splitlines()
    return next((number for number, line in enumerate(lines, 1) if text in line), None)


# ------------------------------------------------------------------------------------------ Python, requirements, port
def _python(project: Project, files: "Mapping[str, bytes]", tool: "dict[str, Any]", table: "dict[str, Any]") -> None:
    wanted: dict[str, tuple[str, Place]] = {}
    requires = _table(table, "project").get("requires-python")
    if isinstance(requires, str):
        wanted["range"] = (requires, _place(files, "pyproject.toml", "requires-python"))
    for path in ("runtime.txt", ".python-version"):
        text = next(
            (line.strip() for line in files.get(path, b"").decode(errors="replace").splitlines() if line.strip()), ""
        )
        if text:
            wanted["exact"] = (text, Place(path, 1, text[:80]))
    if "python" in tool:
        wanted["exact"] = (tool["python"], _place(files, "pyproject.toml", "python ="))
    project.release, reason, place = version.choose(wanted)
    project.choose("python", project.release.python, reason, place)


def _place(files: "Mapping[str, bytes]", path: str, text: str) -> Place:
    line = syntax_line(files, path, text)
    return Place(path, line, syntax.line_of(files[path], line) if line else None)


def _requirements(project: Project, files: "Mapping[str, bytes]", table: "dict[str, Any]") -> None:
    """Take requirements.txt, else [project] dependencies; add Flask where it is used and nothing asks for it."""
    declared = _table(table, "project").get("dependencies")
    dependencies = [str(item) for item in declared] if isinstance(declared, list) else []
    if "requirements.txt" in files:
        project.requirements = requirement.parse_file("requirements.txt", files)
        reason = "its pins come before [project] dependencies" if dependencies else "the project's requirements"
        project.choose("requirements", _count(project.requirements), reason, Place("requirements.txt", 1))
    elif dependencies:
        project.requirements = requirement.from_project(dependencies, files["pyproject.toml"])
        project.choose(
            "requirements",
            _count(project.requirements),
            "[project] dependencies",
            _place(files, "pyproject.toml", "dependencies"),
        )
    elif _table(_table(table, "tool"), "poetry").get("dependencies"):
        hint = "write them down with `poetry export -o requirements.txt`"
        raise InvalidArgument(
            "the dependencies stand in [tool.poetry], which Sampan does not read",
            hints=(hint,),
            at=Place("pyproject.toml"),
        )
    is_flask = bool(project.target) and any("Flask" in choice.reason for choice in project.choices)
    if is_flask and "flask" not in project.requirements.names():
        place = next(choice.place for choice in project.choices if choice.what == "application")
        project.requirements.items.append(requirement.Requirement("flask", "flask", place or Place("")))
        project.choose("requirement", "flask", "the application uses it and no requirement names it", place)


def _count(found: requirement.Requirements) -> str:
    count = len(found.items)
    return f"{count} requirement{'s' * (count != 1)} in {found.source}"


def _port(project: Project, files: "Mapping[str, bytes]", tool: "dict[str, Any]") -> None:
    """Take the port that something says, else Flask's own for an application that is served."""
    if "port" in tool:
        if not 0 < tool["port"] < 65536:
            raise InvalidArgument(f"`{tool['port']}` is not a port", at=_place(files, "pyproject.toml", "port"))
        project.port = tool["port"]
        project.choose("port", str(project.port), "[tool.sampan] says so", _place(files, "pyproject.toml", "port"))
        return
    if project.command:
        project.port = procfile.port(project.command)
        if project.port:
            project.choose("port", str(project.port), "the command binds it")
        return
    path = project.script or _file_of(project, files)
    runs = syntax.read(path, files[path]).runs if path in files else []
    for run in runs:
        if run.port is not None:
            project.port = run.port
            project.choose(
                "port",
                str(run.port),
                "app.run() names it",
                Place(path, run.line, syntax.line_of(files[path], run.line)),
            )
            return
    if project.target:
        project.port = _flaskenv_port(files) or FLASK_PORT
        is_set = project.port != FLASK_PORT
        project.choose(
            "port", str(project.port), ".flaskenv names it" if is_set else "Flask's own; the project names none"
        )


def _file_of(project: Project, files: "Mapping[str, bytes]") -> str:
    """Return the file that the target's module stands in."""
    stem = project.target.partition(":")[0].replace(".", "/")
    prefix = f"{project.path_entry}/" if project.path_entry else ""
    return next((path for path in (f"{prefix}{stem}.py", f"{prefix}{stem}/__init__.py") if path in files), "")


def _flaskenv_port(files: "Mapping[str, bytes]") -> int | None:
    for line in files.get(".flaskenv", b"").decode(errors="replace").splitlines():
        key, _, value = line.strip().removeprefix("export ").partition("=")
        value = value.strip().strip("'\"")
        if key.strip() == "FLASK_RUN_PORT" and value.isdigit() and 0 < int(value[:6]) < 65536:
            return int(value)
    return None


def _nothing(name: str, files: "Mapping[str, bytes]", others: "Sequence[str]") -> NotFound:
    """Say what was looked for, and the nearest way to go on."""
    looked = "a Flask object, a main.py or app.py, a single script, [project.scripts], a Procfile"
    hints = [
        f"looked for: {looked}",
        'name the application in pyproject.toml: `[tool.sampan]` with `app = "module:name"`',
    ]
    below = sorted(
        {
            path.split("/")[0]
            for path in others
            if path.count("/") == 1 and _stem(path) in _FIRST and path.endswith(".py")
        }
    )
    if below:
        hints.insert(0, f"did you mean `{name}/{below[0]}`?")
    what = (
        "there is no application to run"
        if any(path.endswith(".py") for path in files)
        else "there is no Python project"
    )
    return NotFound(f"{what} in `{name}`", hints=tuple(hints))
