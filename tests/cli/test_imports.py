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
    "argparse asyncio dataclasses datetime enum functools inspect json logging pathlib pickle platform random re rich "
    "shutil signal socket sqlite3 subprocess tarfile tempfile threading tomllib traceback typing urllib uuid"
).split()
# Run before sampan: what the interpreter itself has loaded is not ours.
PROGRAM = """
import sys
before = set(sys.modules)
from sampan.cli.app import main
import os
pid = os.getpid()
status = main(sys.argv[1:])
if os.getpid() == pid:
    os.write(3, "\\n".join(sorted(set(sys.modules) - before)).encode())
sys.exit(status)
"""


@pytest.fixture
def modules(environment: dict[str, str]) -> Callable[..., list[str]]:
    """Return `modules(*words)`: what the command loads, in an interpreter without site-packages."""
    import sampan

    above = os.path.dirname(os.path.dirname(sampan.__file__ or ""))

    def load(*words: str) -> list[str]:
        reader, writer = os.pipe()
        argv = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {above!r}){PROGRAM}", *words]
        os.dup2(writer, 3) if writer != 3 else None
        try:
            done = subprocess.run(argv, check=False, capture_output=True, text=True, pass_fds=(3,), env=environment)
        finally:
            for fd in {writer, 3}:
                os.close(fd)
        with open(reader, encoding="utf-8") as file:
            found = file.read().split("\n")
        assert done.returncode == 0, done.stderr
        return found

    return load


def test_what_run_loads(
    sampan: Command, busybox_tar: str, modules: Callable[..., list[str]], golden: Callable[[str, str], None]
) -> None:
    """`sampan run --rm IMAGE true` loads these modules and no others."""
    sampan("import", busybox_tar, "busybox", check=True)
    sampan("run", "--rm", "busybox", "true", check=True)  # unpacks, probes and caches once for all
    found = modules("run", "--rm", "busybox", "true")
    golden("run.modules", "\n".join(found) + "\n")
    assert not set(found) & set(DEAR)


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
        assert not set(modules(*line.split())) & set(DEAR)
    finally:
        sampan("rm", "-f", "web")
