"""What the hot commands load: a golden, since each import costs every start."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay]

Command = Callable[..., "subprocess.CompletedProcess[str]"]

# Each costs more than a millisecond (docs/adr): none may be loaded on the way to a running container.
DEAR = (
    "argparse asyncio dataclasses datetime enum inspect json logging pathlib pickle platform random re rich "
    "shutil signal socket sqlite3 subprocess tarfile tempfile threading tomllib traceback typing urllib uuid"
).split()
# Of the standard library all that may be loaded, in any Python from 3.11 on: each is there already, or cheap.
CHEAP = (
    "_collections _collections_abc _functools _json _operator _socket _sqlite3 _stat _struct collections "
    "collections.abc errno fcntl functools gc genericpath itertools keyword operator os os.path posixpath reprlib "
    "select stat struct termios types zlib"
).split()
# Run before sampan: what the interpreter itself has loaded is not ours.
PROGRAM = """
import sys
before = set(sys.modules)
from sampan.cli.app import main
import os
pid = os.getpid()
status = main(sys.argv[2:])
if os.getpid() == pid:
    open(sys.argv[1], "w").write("\\n".join(sorted(set(sys.modules) - before)))
sys.exit(status)
"""


@pytest.fixture
def modules(environment: dict[str, str], place: str) -> Callable[..., list[str]]:
    """Return `modules(*words)`: what the command loads, in an interpreter without site-packages."""
    import sampan

    above = os.path.dirname(os.path.dirname(sampan.__file__ or ""))

    def load(*words: str) -> list[str]:
        told = f"{place}/modules"
        argv = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {above!r}){PROGRAM}", told, *words]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        with open(told, encoding="ascii") as file:
            return file.read().split("\n")

    return load


def test_what_run_loads(
    sampan: Command, busybox_tar: str, modules: Callable[..., list[str]], golden: Callable[[str, str], None]
) -> None:
    """`sampan run --rm IMAGE true` loads these modules and no others."""
    sampan("import", busybox_tar, "busybox", check=True)
    sampan("run", "--rm", "busybox", "true", check=True)  # unpacks, probes and caches once for all
    found = modules("run", "--rm", "busybox", "true")
    ours = [name for name in found if name.partition(".")[0] == "sampan"]
    golden("run.modules", "\n".join(ours) + "\n")
    assert set(found) - set(ours) <= set(CHEAP)


@pytest.mark.parametrize("line", ["ps", "exec web true", "logs web", "stop -t 0 web", "start web", "rm -f web"])
def test_the_other_hot_commands_are_cheap(
    sampan: Command, busybox_tar: str, modules: Callable[..., list[str]], line: str
) -> None:
    """ps, exec, logs, stop, start and rm load no dear module either."""
    sampan("import", busybox_tar, "busybox", check=True)
    sampan("run", "-d", "--name", "web", "busybox", "sleep", "60", check=True)
    try:
        if line.startswith("start"):
            sampan("stop", "-t", "0", "web", check=True)
        loaded = set(modules(*line.split()))
        assert not loaded & set(DEAR)
        # Where no template was given nothing reads one.
        assert "sampan.cli.template" not in loaded
    finally:
        sampan("rm", "-f", "web")
