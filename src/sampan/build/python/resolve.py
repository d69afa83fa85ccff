"""From requirements to pinned wheels, by uv: for the image's Python and platform, never running a build script.

uv's answer is asked for as a pylock (PEP 751), which is data: of it names, versions, file names and hashes are kept,
and no address. That uv failed is decided by its exit status; what failed is found by asking again, one requirement at a
time. uv's own words are shown as the cause.
"""

import os
import tomllib
import urllib.parse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sampan.build.lock import Wheel
from sampan.build.python.requirement import Requirement, Requirements
from sampan.build.python.version import Release
from sampan.errors import Corrupt, InvalidArgument, NotFound, SampanError, Unavailable, Unsupported
from sampan.kernel import program
from sampan.settings.index import Index, redact
from sampan.storage.space import exhausted

# uv(1): 0 done, 1 no solution, 2 anything else, the network above all.
_NO_SOLUTION, _FAILED = 1, 2
_TIMEOUT_SECONDS = 600
_PROBE_SECONDS = 60
_CAPTURE_BYTES = 16 * 1024 * 1024
_MAX_PROBES = 64
# uv has taken away what it could not finish by the time that we look.
_FULL_BYTES = 32 << 20
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# What people mean most often: for a name that is not on the index.
_KNOWN = (
    "flask", "django", "fastapi", "requests", "numpy", "pandas", "sqlalchemy", "gunicorn", "uvicorn", "celery",
    "redis", "pydantic", "jinja2", "werkzeug", "click", "httpx", "aiohttp", "scipy", "scikit-learn", "pillow",
    "pyyaml", "psycopg", "psycopg2-binary", "pymysql", "mysqlclient", "boto3", "flask-sqlalchemy", "flask-cors",
    "flask-login", "flask-wtf", "flask-migrate", "marshmallow", "python-dotenv", "beautifulsoup4", "lxml",
    "cryptography", "opencv-python-headless", "matplotlib", "pytest", "waitress",
)  # fmt: skip


class Failure(SampanError):
    """What uv said, as the cause of our own error."""


class Uv:
    """uv, set to one Python and platform, with the machine's index settings and those of the `project` directory.

    `scratch` is a directory for what is handed to it.
    """

    def __init__(self, index: Index, release: Release, architecture: str, *, project: str, scratch: str) -> None:
        self._index = index
        self._project = project
        self.release = release
        self.architecture = architecture
        self.scratch = scratch
        self.constraints = index.constraints

    def target(self) -> tuple[str, ...]:
        """Return the arguments that name the image's Python and platform, and forbid builds."""
        import sys

        platform = f"{_MACHINES[self.architecture]}-manylinux_2_{self.release.glibc}"
        return (
            "--python-version", self.release.python, "--python-platform", platform, "--only-binary", ":all:",
            "--no-python-downloads", "--python", sys.executable,
        )  # fmt: skip

    def run(self, arguments: Sequence[str], *, timeout: float = _TIMEOUT_SECONDS) -> "program.Completed":
        """Run uv with `arguments`; it finds the project's own index settings by its working directory."""
        argv = [find_uv(), *arguments, *self._index.arguments, "--quiet"]
        environment = dict(self._index.environment)
        return program.run(argv, env=environment, cwd=self._project, timeout=timeout, capture_limit=_CAPTURE_BYTES)


def find_uv() -> str:
    """Return the path of uv's binary, which is a dependency of Sampan's; raises Unsupported where it is not there."""
    try:
        import uv

        return os.fsdecode(uv.find_uv_bin())
    except (ImportError, FileNotFoundError) as error:
        raise Unsupported("uv is not installed beside Sampan", hints=("install it with `pip install uv`",)) from error


def resolve(uv: Uv, requirements: Requirements) -> tuple[Wheel, ...]:
    """Return the wheels that `requirements` need, sorted by name.

    Raises NotFound for a requirement that no index has, InvalidArgument for ones that exclude each other, Unavailable.
    """
    if not requirements.items:
        return ()
    asked = _write(uv, "requirements.txt", [*requirements.options, *(item.text for item in requirements.items)])
    limits = [path for path in uv.constraints if os.path.isfile(path)]
    if requirements.constraints:
        limits.append(_write(uv, "constraints.txt", [item.text for item in requirements.constraints]))
    completed = _compile(uv, asked, limits)
    if completed.status != 0:
        raise _explained(uv, requirements, limits, completed)
    return parse_pylock(completed.stdout, uv.release, uv.architecture)


def parse_pylock(text: bytes, release: Release, architecture: str) -> tuple[Wheel, ...]:
    """Take names, versions, file names and hashes from a pylock; raises Corrupt for what has none.

    Older uv names the wheels of all platforms: those that cannot be for this one are left out.
    """
    try:
        table = tomllib.loads(text.decode())
        packages: list[dict[str, Any]] = table.get("packages", [])
        return tuple(
            sorted((_wheel(package, release, architecture) for package in packages), key=lambda wheel: wheel.name)
        )
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, IndexError) as error:
        raise Corrupt("uv's answer is not a pylock with a wheel for each package") from error


def _wheel(package: dict[str, Any], release: Release, architecture: str) -> Wheel:
    named = sorted(package["wheels"], key=_file_name)
    # All of them where none seems to fit: uv, which knows tags better, has found one that does.
    wheels = [wheel for wheel in named if is_for(_file_name(wheel), release, architecture)] or named
    hashes = tuple(sorted({wheel["hashes"]["sha256"] for wheel in wheels}))
    return Wheel(package["name"], package["version"], _file_name(wheels[0]), hashes)


def is_for(file: str, release: Release, architecture: str) -> bool:
    """Tell whether the wheel `file` may fit this Python and platform, by its tags (PEP 425, PEP 600)."""
    pythons, abis, platforms = (part.split(".") for part in file.removesuffix(".whl").rsplit("-", 3)[-3:])
    tag = "cp" + release.python.replace(".", "")
    has_abi = bool({"none", "abi3", tag} & set(abis))
    has_python = (
        tag in pythons or "abi3" in abis or any(python.startswith("py3") or python == "py2.py3" for python in pythons)
    )
    has_platform = "any" in platforms or any(
        platform.startswith(("manylinux", "linux")) and platform.endswith(_MACHINES[architecture])
        for platform in platforms
    )
    return has_abi and (has_python or "none" in abis) and has_platform


def _file_name(wheel: dict[str, Any]) -> str:
    address = wheel.get("name") or wheel.get("path") or wheel["url"]
    return urllib.parse.unquote(urllib.parse.urlsplit(str(address)).path.rpartition("/")[2])


def _compile(
    uv: Uv, asked: str, limits: Sequence[str], *options: str, timeout: float = _TIMEOUT_SECONDS
) -> "program.Completed":
    named = [word for path in limits for word in ("--constraints", path)]
    fixed = ("pip", "compile", "--format", "pylock.toml", "--no-header", "--no-annotate")
    return uv.run([*fixed, *uv.target(), *named, *options, asked], timeout=timeout)


def _write(uv: Uv, name: str, lines: Sequence[str]) -> str:
    path = f"{uv.scratch}/{name}"
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return path


# ----------------------------------------------------------------------------------------------------- what went wrong
def _explained(
    uv: Uv, requirements: Requirements, limits: Sequence[str], completed: "program.Completed"
) -> SampanError:
    """Return the error for a resolution that failed, with uv's words as its cause."""
    cause = Failure(said(completed))
    if completed.status != _NO_SOLUTION:
        if _compile(uv, _write(uv, "probe-nothing.txt", []), (), "--offline").status != 0:
            return _caused(Unsupported("uv, which resolves requirements, cannot work here"), cause)
        malformed = _first(uv, requirements.items, limits, "--offline", status=_FAILED)
        if malformed is None:
            return _caused(_unavailable(uv), cause)
        return _caused(InvalidArgument(f"`{malformed.text}` is not a requirement", at=malformed.place), cause)
    guilty = _first(uv, requirements.items, limits, status=_NO_SOLUTION)
    if guilty is None:
        hints = ("the cause says which exclude each other: loosen one of them",)
        return _caused(InvalidArgument("the requirements cannot all be met together", hints=hints), cause)
    where = f"Python {uv.release.python} on {uv.architecture}"
    if guilty.text == guilty.name or not _is_known(uv, guilty, limits):
        what = f"no release of `{guilty.name}` can be installed for {where}"
        return _caused(NotFound(what, hints=_name_hints(guilty.name), at=guilty.place), cause)
    what = f"no release that `{guilty.text}` asks for can be installed for {where}"
    ways = (f"see which there are: `pip index versions {guilty.name}`", _WHEELS_HINT)
    return _caused(NotFound(what, hints=ways, at=guilty.place), cause)


_WHEELS_HINT = "Sampan installs wheels only: a release that has none for this Python and platform counts as absent"


def _name_hints(name: str) -> tuple[str, ...]:
    import difflib

    near = [known for known in difflib.get_close_matches(name, _KNOWN, 1, 0.75) if known != name]
    return (*(f"did you mean `{known}`?" for known in near), _WHEELS_HINT)


def _first(
    uv: Uv, items: Sequence[Requirement], limits: Sequence[str], *options: str, status: int
) -> Requirement | None:
    """Return the first requirement for which uv ends with `status` even where it is asked for alone, or None."""

    def fails(number: int) -> bool:
        asked = _write(uv, f"probe-{number}.txt", [items[number].text])
        return _compile(uv, asked, limits, "--no-deps", *options, timeout=_PROBE_SECONDS).status == status

    count = min(len(items), _MAX_PROBES)
    with ThreadPoolExecutor(8) as pool:
        failed = list(pool.map(fails, range(count)))
    return next((item for item, is_guilty in zip(items, failed, strict=False) if is_guilty), None)


def _is_known(uv: Uv, item: Requirement, limits: Sequence[str]) -> bool:
    """Tell whether some release of the requirement's name can be installed."""
    asked = _write(uv, "probe-name.txt", [item.name])
    return _compile(uv, asked, limits, "--no-deps", timeout=_PROBE_SECONDS).status == 0


def _unavailable(uv: Uv) -> SampanError:
    """Return why uv could not do its work: a full disk, else an index that does not answer."""
    counts = os.statvfs(uv.scratch)
    if counts.f_bavail * counts.f_frsize < _FULL_BYTES:
        return exhausted(uv.scratch)
    hints = (
        "see that this machine reaches its Python package index: `pip download --no-deps flask`",
        "name the index in pip's or uv's settings: `pip config set global.index-url URL`",
    )
    return Unavailable("the Python package index cannot be reached, or refuses", hints=hints)


def failed_install(uv: Uv, completed: "program.Completed") -> SampanError:
    """Return the error for wheels that could not be fetched."""
    return _caused(_unavailable(uv), Failure(said(completed)))


def said(completed: "program.Completed") -> str:
    """Return uv's words, bounded, without passwords and without its own `error:`."""
    text = redact(completed.stderr.decode(errors="replace"))
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not line.startswith("warning:")]
    return "\n".join(lines)[-4000:].removeprefix("error: ") or f"uv ended with status {completed.status}"


def _caused(error: SampanError, cause: SampanError) -> SampanError:
    error.__cause__ = cause
    return error
