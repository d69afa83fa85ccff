"""logs: what was written, from when to when, and where `--log-driver` and `--log-opt` put it."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.engine import log_words, logs
from sampan.errors import InvalidArgument, SampanError, Unsupported
from tests.engine.conftest import Store
from tests.plugin.ground import PROGRAM

Command = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [pytest.mark.first]
real = [
    pytest.mark.root,
    pytest.mark.userns,
    pytest.mark.overlay,
    pytest.mark.cgroup,
    pytest.mark.usefixtures("busybox"),
]
_BOX = ("--network", "none", "--name", "box")
_NOW = 1_700_000_000.0


@pytest.fixture
def box(sampan: Command) -> Iterator[Command]:
    """Return `sampan`; in the end there is no `box`."""
    yield sampan
    sampan("rm", "-f", "box")


@pytest.mark.parametrize(
    ("word", "time"),
    [
        ("", ""),
        ("0", "1970-01-01T00:00:00.000000000Z"),
        ("1136073600", "2006-01-01T00:00:00.000000000Z"),
        ("1136073600.000000001", "2006-01-01T00:00:00.000000001Z"),
        ("10m", "2023-11-14T22:03:20.000000000Z"),
        ("-1h30m", "2023-11-14T23:43:20.000000000Z"),
        ("2013-01-02T00:00:00.123456789Z", "2013-01-02T00:00:00.123456789Z"),
        ("2013-01-02T02:00:00.5+02:00", "2013-01-02T00:00:00.500000000Z"),
        ("2013-01-02T03:04:05Z", "2013-01-02T03:04:05.000000000Z"),
        ("2013-01-02T03:04Z", "2013-01-02T03:04:00.000000000Z"),
        ("2013-01-02Z", "2013-01-02T00:00:00.000000000Z"),
        ("2013-01-02+01:00", "2013-01-01T23:00:00.000000000Z"),
    ],
)
def test_moments(word: str, time: str) -> None:
    """Docker's GetTimestamp: seconds, durations back from now, dates to the nanosecond."""
    assert logs.moment(word, _NOW) == time


def test_a_date_without_a_zone_is_this_machine_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of it as one likes."""
    monkeypatch.setenv("TZ", "Etc/GMT-3")
    time.tzset()
    try:
        for word in ("2013-01-02", "2013-01-02T00", "2013-01-02T00:00", "2013-01-02T00:00:00"):
            assert logs.moment(word, _NOW) == "2013-01-01T21:00:00.000000000Z"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("word", ["nan", "inf", "1e400", "yesterday", "2013-13-01", "9" * 30, "1.2.3", "--1m"])
def test_what_is_no_moment(word: str) -> None:
    """An error that names it, whatever it is."""
    with pytest.raises(InvalidArgument, match="is no time"):
        logs.moment(word, _NOW)


@pytest.mark.parametrize(
    ("driver", "options", "kind"),
    [
        ("syslog", {}, Unsupported),
        ("sislog", {}, InvalidArgument),
        ("", {"max-sise": "1m"}, InvalidArgument),
        ("local", {"labels": "a"}, InvalidArgument),
        ("none", {"max-size": "1m"}, InvalidArgument),
        ("", {"max-size": "0"}, InvalidArgument),
        ("", {"max-size": "10x"}, InvalidArgument),
        ("", {"max-file": "0"}, InvalidArgument),
        ("", {"max-file": "two"}, InvalidArgument),
        ("", {"mode": "lazy"}, InvalidArgument),
        ("", {"max-buffer-size": "4m"}, InvalidArgument),
        ("", {"compress": "true"}, Unsupported),
        ("", {"env-regex": "("}, InvalidArgument),
    ],
)
def test_what_cannot_be_had(driver: str, options: dict[str, str], kind: type[SampanError]) -> None:
    """A driver or an option that is not there is refused before anything is made."""
    with pytest.raises(kind):
        log_words.check(driver, options)


def test_what_docker_takes() -> None:
    """The options that change nothing here are taken too."""
    log_words.check("", {"mode": "non-blocking", "max-buffer-size": "4m", "compress": "false", "max-size": "20k"})
    log_words.check("local", {"mode": "blocking", "max-file": "1"})


class TestInContainers:
    """With the kernel."""

    pytestmark = real

    def test_a_rotated_log(self, box: Command, store: Store) -> None:
        """max-size and max-file bound it; a follower sees each line once, in order."""
        options = ("--log-opt", "max-size=64k", "--log-opt", "max-file=2")
        script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"
        id = box("create", *_BOX, *options, "busybox", "sh", "-c", script, check=True).stdout.strip()
        box("start", "box", check=True)
        box("wait", "box", check=True)
        files = sorted(Path(f"{store.root}/containers/{id}/logs").iterdir())
        assert [file.name for file in files] == ["json.log", "json.log.1"]
        assert all(file.stat().st_size <= 65536 for file in files)
        seen = [int(line.split()[1]) for line in box("logs", "box").stdout.splitlines()]
        assert seen == list(range(seen[0], 3000))
        told = json.loads(box("inspect", "-f", "{{json .HostConfig.LogConfig}}", "box").stdout)
        assert told == {"Type": "json-file", "Config": {"max-size": "64k", "max-file": "2"}}

    def test_a_follower_goes_through_rotation_and_restart(self, box: Command, environment: dict[str, str]) -> None:
        """Nothing is lost and nothing comes twice, and a restart by policy is not the end."""
        options = ("--log-opt", "max-size=20k", "--log-opt", "max-file=20", "--restart", "on-failure:1")
        script = "read go; i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done; exit 1"
        box("run", "-di", *_BOX, *options, "busybox", "sh", "-c", script, check=True)
        pipe = subprocess.PIPE
        follower = subprocess.Popen([PROGRAM, "logs", "-f", "box"], env=environment, stdout=pipe, text=True)
        for _ in range(2):
            writer = subprocess.Popen(
                [PROGRAM, "attach", "box"], env=environment, stdin=pipe, stdout=subprocess.DEVNULL
            )
            assert writer.stdin is not None
            writer.stdin.write(b"go\n")
            writer.stdin.flush()
            assert writer.wait(20) == 1
            writer.stdin.close()
            while box("inspect", "-f", "{{.State.Status}}", "box").stdout.strip() == "restarting":
                pass
        out, _ = follower.communicate(timeout=20)
        assert out.splitlines() == [f"line {number}" for number in range(1000)] * 2

    def test_no_log(self, box: Command, store: Store) -> None:
        """--log-driver none keeps nothing, and says so; who is attached sees all."""
        id = box("create", *_BOX, "--log-driver", "none", "busybox", "sh", "-c", "echo out; sleep 1.3; echo more")
        assert box("start", "-a", "box").stdout == "out\nmore\n"
        assert not os.path.exists(f"{store.root}/containers/{id.stdout.strip()}/logs")
        done = box("logs", "box")
        assert done.returncode == 1
        assert "is `none`" in done.stderr
        assert box("inspect", "-f", "{{.HostConfig.LogConfig.Type}}|{{.LogPath}}", "box").stdout == "none|\n"

    def test_details(self, box: Command) -> None:
        """Docker's: labels, variables and a tag, sorted, as in a URL; a space where there are none."""
        words = ("-l", "a=b", "-l", "z=q r", "-e", "X=1", "-e", "XY=2", "--log-opt", "labels=a,z,none")
        more = ("--log-opt", "env=X", "--log-opt", "env-regex=^XY", "--log-opt", "tag={{.Name}}/{{ .ImageName }}")
        box("run", *_BOX, *words, *more, "busybox", "sh", "-c", "echo hi; printf end", check=True)
        prefix = "X=1,XY=2,a=b,tag=box%2Fbusybox,z=q+r"
        assert box("logs", "--details", "box").stdout == f"{prefix} hi\n{prefix} end"
        (line, _) = box("logs", "--details", "-t", "box").stdout.splitlines()
        assert line.split(" ", 1)[1] == f"{prefix} hi"
        box("rm", "box", check=True)
        box("run", *_BOX, "--log-driver", "local", "busybox", "echo", "hi", check=True)
        assert box("logs", "--details", "box").stdout == " hi\n"
        box("rm", "box", check=True)
        done = box("run", *_BOX, "--log-opt", "tag={{.Nmae}}", "busybox", "true")
        assert done.returncode == 125
        assert "{{.Name}}" in done.stderr
        assert box("ps", "-aq").stdout == ""

    def test_since_and_until(self, box: Command) -> None:
        """To the nanosecond, both ends included; 0 is neither (docker)."""
        box("run", *_BOX, "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.05; done", check=True)
        stamps = [line.split()[0] for line in box("logs", "-t", "box").stdout.splitlines()]
        assert box("logs", "--since", stamps[1], "--until", stamps[1], "box").stdout == "2\n"
        assert box("logs", "--since", stamps[1], "box").stdout == "2\n3\n"
        assert box("logs", "--since", "10m", "--until", "0", "--tail", "1", "box").stdout == "3\n"
        assert box("logs", "--since", "-10m", "box").stdout == ""
        assert box("logs", "-n", "2", "-t", "box").stdout.split()[::2] == stamps[1:]
        assert box("logs", "-f", "-n0", "box").stdout == ""

    def test_a_reader_that_stands_still_holds_up_nobody(self, box: Command, environment: dict[str, str]) -> None:
        """`logs -f` and `attach` whose pipes are full, and one that was killed: the container goes on to its end."""
        script = "read go; yes 0123456789012345678901234567890123456789 | head -c 8m; echo; echo done"
        box("run", "-di", *_BOX, "busybox", "sh", "-c", script, check=True)
        pipe = subprocess.PIPE
        still = [
            subprocess.Popen([PROGRAM, *words], env=environment, stdin=pipe, stdout=pipe)
            for words in (("logs", "-f", "box"), ("attach", "--no-stdin", "box"), ("attach", "box"))
        ]
        killed = subprocess.Popen([PROGRAM, "logs", "-f", "box"], env=environment, stdout=pipe)
        killed.kill()
        assert still[2].stdin is not None
        still[2].stdin.write(b"go\n")
        still[2].stdin.flush()
        assert box("wait", "box", timeout=60).stdout == "0\n"
        assert box("logs", "-n", "1", "box").stdout == "done\n"
        for process in (*still, killed):
            process.kill()
            process.communicate()
