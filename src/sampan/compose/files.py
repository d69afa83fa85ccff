"""Which files a project is read from, and which variables they may use.

    -f FILE...                   these; `-` is stdin
    COMPOSE_FILE                 these, apart by COMPOSE_PATH_SEPARATOR (`:`)
    else                         compose.yaml, compose.yml, docker-compose.yml or .yaml, here or in a directory above,
                                 with its override file (compose.override.yaml, …) where there is one

The project's directory is --project-directory, or that of the first file. Its `.env` (--env-file, COMPOSE_ENV_FILES)
gives variables, and may name the files too; what the caller's environment has wins.
"""

import os
from collections.abc import Iterable, Mapping

from sampan.compose.model import dotenv, resolve, source
from sampan.compose.model.load import Request, Text
from sampan.errors import InvalidArgument, NotFound
from sampan.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.compose.model.project import Project

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDES = (
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
STDIN = "-"
_FILES_AT_MOST = 100


@frozen
class Selection:
    """What the person said of the project: docker compose's flags before the command."""

    files: tuple[str, ...] = ()
    name: str = ""
    directory: str = ""
    env_files: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    is_interpolated: bool = True


def project(selection: Selection, environment: Mapping[str, str], named: Iterable[str] = ()) -> "Project":
    """Read the project; services that are `named` have their profiles on. Raises NotFound, InvalidArgument."""
    wanted = request(selection, environment)
    profiles = selection.profiles or _words(wanted.environment.get("COMPOSE_PROFILES", ""), ",")
    return resolve.project(wanted, profiles=profiles, named=named)


def request(selection: Selection, environment: Mapping[str, str]) -> Request:
    """Return what is to be loaded."""
    here = os.getcwd()
    directory = selection.directory or environment.get("COMPOSE_PROJECT_DIRECTORY", "")
    first = _first_directory(selection, environment, here)
    variables = _environment(selection, environment, os.path.abspath(directory) if directory else first or here)
    paths = _paths(selection, variables, here)
    if not directory:
        directory = here if paths[0] == STDIN else os.path.dirname(os.path.abspath(paths[0]))
    return Request(
        texts=tuple(Text(path, _content(path)) for path in paths),
        directory=os.path.abspath(directory),
        environment=variables,
        read=read,
        name=selection.name,
        home=environment.get("HOME") or "/",
        is_interpolated=selection.is_interpolated,
    )


def read(path: str, limit: int = source.BYTES) -> bytes:
    """Return the content of a file; raises NotFound, InvalidArgument."""
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"there is no file `{path}`", hints=(f"`ls {os.path.dirname(path) or '.'}` shows what is there",)
        ) from error
    except IsADirectoryError as error:
        raise InvalidArgument(f"`{path}` is a directory, not a file") from error
    if len(content) > limit:
        raise InvalidArgument(f"the file `{path}` is larger than {limit} bytes")
    return content


def _content(path: str) -> bytes:
    if path != STDIN:
        return read(path)
    with open(0, "rb", closefd=False) as file:
        return file.read(source.BYTES + 1)


def _first_directory(selection: Selection, environment: Mapping[str, str], here: str) -> str:
    """Return where the project's `.env` lies, before that could name the files."""
    files = selection.files or _named(environment)
    if files:
        return here if files[0] == STDIN else os.path.dirname(os.path.abspath(files[0]))
    return _search(here)


def _paths(selection: Selection, variables: Mapping[str, str], here: str) -> tuple[str, ...]:
    """Return the files in order."""
    if named := selection.files or _named(variables):
        if len(named) > _FILES_AT_MOST:
            raise InvalidArgument(f"there are more than {_FILES_AT_MOST} compose files")
        return named
    directory = _search(here)
    if not directory:
        raise NotFound(
            "there is no compose file here, nor in a directory above",
            hints=("make a `compose.yaml`, or name a file with `-f FILE`",),
        )
    first = next(name for name in NAMES if os.path.isfile(os.path.join(directory, name)))
    overrides = [name for name in OVERRIDES if os.path.isfile(os.path.join(directory, name))]
    return tuple(name if directory == here else os.path.join(directory, name) for name in (first, *overrides[:1]))


def _named(variables: Mapping[str, str]) -> tuple[str, ...]:
    return _words(variables.get("COMPOSE_FILE", ""), variables.get("COMPOSE_PATH_SEPARATOR") or ":")


def _words(text: str, separator: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(separator) if word)


def _search(here: str) -> str:
    """Return the nearest directory, from here upwards, that has a compose file; empty where none has."""
    directory = here
    while True:
        if any(os.path.isfile(os.path.join(directory, name)) for name in NAMES):
            return directory
        above = os.path.dirname(directory)
        if above == directory:
            return ""
        directory = above


def _environment(selection: Selection, environment: Mapping[str, str], directory: str) -> dict[str, str]:
    """Return the caller's variables over those of the project's environment files."""
    named = selection.env_files or _words(environment.get("COMPOSE_ENV_FILES", ""), ",")
    found: dict[str, str] = {}
    for path in named or (os.path.join(directory, ".env"),):
        try:
            content = read(path)
        except NotFound:
            if not named:
                continue
            raise
        told = dotenv.parse(content, path, found | dict(environment))
        found |= {key: value for key, value in told.items() if value is not None}
    return found | dict(environment)
