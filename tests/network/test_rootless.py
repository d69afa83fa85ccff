"""A normal user's way out: pasta is started once for a holder, ended where its own was killed, and asked for by name.

The pasta here is a stand-in with pasta's command line: the real one needs /dev/net/tun, and is tried in the emulated
machines.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.network import rootless
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first]

_STAND_IN = """#!/bin/sh
echo "$@" > "$0.words"
while [ "$1" != --pid ]; do shift; done
exec sh -c 'sleep 60 >/dev/null 2>&1 & echo $! > "$1"' sh "$2"
"""


@pytest.fixture
def settings(place: str) -> Iterator[Settings]:
    """Settings whose PATH has a pasta, which ends with the test."""
    os.mkdir(f"{place}/bin")
    os.mkdir(f"{place}/run")
    _write(f"{place}/bin/pasta", _STAND_IN)
    made = Settings({"HOME": place, "SAMPAN_RUN": f"{place}/run", "PATH": f"{place}/bin:/usr/bin:/bin"}, 1)
    yield made
    try:
        os.kill(int(Path(f"{place}/run/pasta.pid").read_text(encoding="utf-8")), signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return


def _write(path: str, text: str) -> None:
    Path(path).write_text(text, encoding="utf-8")
    os.chmod(path, 0o755)  # noqa: S103  # a program


def test_it_is_attached_to_the_process(settings: Settings, place: str) -> None:
    """Its own pid comes back, no warning, and it takes no port of the machine nor its loopback."""
    helper, lack = rootless.attach(4321, settings)
    assert lack == ""
    assert os.path.exists(f"/proc/{helper}")
    words = Path(f"{place}/bin/pasta.words").read_text(encoding="utf-8").split()
    assert words[-1] == "4321"
    assert "--no-map-gw" in words
    assert [words[words.index(flag) + 1] for flag in ("-t", "-u", "-T", "-U")] == ["none"] * 4


def test_one_whose_holder_was_killed_is_ended(settings: Settings, place: str) -> None:
    """The next attach ends it; a process that only has its number is left alone."""
    with subprocess.Popen(["sleep", "60"]) as stranger, _old_pasta(place) as old:
        _write(f"{place}/run/pasta.pid", str(stranger.pid))
        rootless.attach(1, settings)
        os.kill(int(Path(f"{place}/run/pasta.pid").read_text(encoding="utf-8")), signal.SIGKILL)
        assert stranger.poll() is None
        _write(f"{place}/run/pasta.pid", str(old.pid))
        rootless.attach(1, settings)
        assert old.wait(5) == -signal.SIGTERM
        stranger.kill()


def _old_pasta(place: str) -> "subprocess.Popen[bytes]":
    """Start what has an attached pasta's words."""
    program = "import time; time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-I", "-c", program, "--pid", f"{place}/run/pasta.pid", "77"])
    time.sleep(0.1)
    return child


def test_all_that_are_left_are_ended(settings: Settings, place: str) -> None:
    """A start that was killed leaves a pasta that the file does not tell of: it goes all the same."""
    with _old_pasta(place) as first, _old_pasta(place) as second:
        _write(f"{place}/run/pasta.pid", str(second.pid))
        rootless.attach(1, settings)
        assert [first.wait(5), second.wait(5)] == [-signal.SIGTERM] * 2


def test_without_it_the_reason_is_said(settings: Settings, place: str) -> None:
    """Not installed: the package; failed: its own last word. Nothing asks for sudo."""
    _write(f"{place}/bin/pasta", "#!/bin/sh\necho Failed to open /dev/net/tun >&2\nexit 1\n")
    assert rootless.attach(1, settings) == (
        0,
        "containers reach no network but each other's, since `pasta` failed: Failed to open /dev/net/tun",
    )
    os.unlink(f"{place}/bin/pasta")
    if not any(os.path.exists(f"{place}/pasta") for place in ("/usr/bin", "/bin", "/usr/sbin", "/sbin")):
        helper, lack = rootless.attach(1, settings)
        assert helper == 0
        assert lack.endswith("`pasta` is not installed: `apt install passt`")
