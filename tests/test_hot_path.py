"""What the hot path loads: the budget of a start is twenty milliseconds, and an import is how it is lost."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.plugin.ground import Command

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns]

# The standard library's modules that cost less than a millisecond, or that nothing can do without (ctypes: 2.3 ms).
CHEAP = set(
    "_ctypes _json _posixsubprocess _signal _socket _sqlite3 _struct _weakrefset binascii copyreg ctypes "
    "ctypes._endian errno fcntl gc grp math pwd resource select struct termios time zlib".split()
)
COMMANDS = {
    "run": ("run", "--rm", "busybox", "true"),
    "exec": ("exec", "hot", "true"),
    "ps": ("ps",),
    "logs": ("logs", "hot"),
    "stop": ("stop", "-t", "0", "hot"),
}


@pytest.fixture
def hot(sampan: Command, busybox_tar: str) -> Command:
    """Return the command, with a container `hot` running; caches that a first run fills are filled."""
    sampan("import", busybox_tar, "busybox", check=True)
    sampan("run", "--rm", "busybox", "true", check=True)
    sampan("run", "-d", "--name", "hot", "busybox", "sleep", "1000", check=True)
    return sampan


def test_what_the_hot_path_loads(hot: Command, environment: dict[str, str], golden: Callable[[str, str], None]) -> None:
    """`run`, `exec`, `ps`, `logs` and `stop` load the modules that the golden names, and of Python only cheap ones."""
    try:
        loaded = {name: _loaded(words, environment) for name, words in COMMANDS.items()}
    finally:
        hot("rm", "-f", "hot", check=True)
    ours = {name: sorted(module for module in modules if _is_ours(module)) for name, modules in loaded.items()}
    golden("hot-path.txt", "".join(f"{name}\n" + "".join(f"  {module}\n" for module in ours[name]) for name in ours))
    dear = {name: sorted(modules - CHEAP - set(ours[name])) for name, modules in loaded.items()}
    assert dear == {name: [] for name in COMMANDS}


def _loaded(words: tuple[str, ...], environment: dict[str, str]) -> set[str]:
    """Return the modules that one command loads on top of a bare interpreter's."""
    program = Path(sys.executable).with_name("sampan")
    return _imports([str(program), *words], environment) - _imports(["-c", "pass"], environment)


def _imports(argv: list[str], environment: dict[str, str]) -> set[str]:
    """Return the modules that one run of the interpreter imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *argv], check=False, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"^import time: +\d+ \| +\d+ \| +(\S+)$", done.stderr, re.MULTILINE))


def _is_ours(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] == "sampan"
