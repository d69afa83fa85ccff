"""Steps: a whole container on top of layers, of which only what it changed stays."""

import contextlib
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sampan.build import step
from sampan.build.cache import Result
from sampan.build.scratch import Scratch
from sampan.build.scratch import sweep as sweep_scratch
from sampan.build.step import Cache, Directory, File, Layers, Step, StepFailed, Tmpfs
from sampan.database import connection
from sampan.database.connection import Database
from sampan.database.lease import Lease
from sampan.errors import CommandNotFound, Exhausted, InvalidArgument, SampanError
from sampan.events import Event
from sampan.image.content import Content
from sampan.image.store import Images
from sampan.oci.digest import Digest
from sampan.settings.configuration import Settings
from tests.plugin.person import Person

Command = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns]

# What a process other than the test's does: prints what one step in busybox says, and the names in its layer.
PROGRAM = """
import io, os, tarfile
from sampan.build import step
from sampan.build.cache import Result
from sampan.build.scratch import Scratch
from sampan.database import connection
from sampan.database.lease import Lease
from sampan.engine import rootless
from sampan.events import Event
from sampan.image.content import Content
from sampan.image.store import Images
from sampan.oci.digest import Digest
from sampan.settings import configuration

class Ground: pass

settings = configuration.load()
rootless.enter(settings)
with connection.open(settings) as database, Lease(database, "build") as lease, Scratch(settings.root) as scratch:
    ground = Ground()
    ground.settings, ground.database, ground.lease, ground.scratch = settings, database, lease, scratch.path
    ground.content = Content(settings.root, lease)
    ground.sink = lambda event: print("warning", event.text, file=sys.stderr)
    image = Images(database).find("busybox")
    below = [Result(d, Digest.parse(i), 0, {}) for d, i in zip(image.layers, image.diff_ids)]
    what = step.Step(args=("/bin/sh", "-c", sys.argv[1]), user=sys.argv[2], network=sys.argv[3])
    made = step.run(ground, below, what, output=lambda piece: os.write(1, piece))
    with open(ground.content.path(made.digest), "rb") as file:
        for entry in tarfile.open(fileobj=io.BytesIO(file.read())):
            print("layer", entry.name, oct(entry.mode), entry.uid, entry.gid)
"""


@dataclass
class Ground:
    """All that a step needs of a build."""

    settings: Settings
    database: Database
    content: Content
    lease: Lease
    scratch: str
    events: list[Event]

    def sink(self, event: Event) -> None:
        """Keep what is told."""
        self.events.append(event)


@pytest.fixture
def ground(settings: Settings, sampan: Command, busybox_tar: str) -> Iterator[Ground]:
    """Yield a store with busybox in it, in the middle of a build."""
    sampan("import", busybox_tar, "busybox", check=True)
    with connection.open(settings) as database, Lease(database, "build") as lease, Scratch(settings.root) as scratch:
        yield Ground(settings, database, Content(settings.root, lease), lease, scratch.path, [])


@pytest.fixture
def below(ground: Ground) -> list[Result]:
    """Return busybox's layers."""
    image = Images(ground.database).find("busybox")
    pairs = zip(image.layers, image.diff_ids, strict=True)
    return [Result(digest, Digest.parse(diff_id), 0, {}) for digest, diff_id in pairs]


def shell(script: str, **options: object) -> Step:
    """Return a step that runs a shell script."""
    return Step(args=("/bin/sh", "-c", script), **options)  # type: ignore[arg-type]  # a step's own words


def said(ground: Ground, below: list[Result], what: Step) -> str:
    """Return what a step prints."""
    pieces: list[bytes] = []
    step.run(ground, below, what, output=pieces.append)
    return b"".join(pieces).decode()


def entries(ground: Ground, layer: Result) -> dict[str, tarfile.TarInfo]:
    """Return what is in a layer's tar, by name."""
    with open(ground.content.path(layer.digest), "rb") as file, tarfile.open(fileobj=io.BytesIO(file.read())) as tar:
        return {entry.name: entry for entry in tar}


def left(ground: Ground) -> list[str]:
    """Name what steps have left that are over."""
    found = os.listdir(ground.scratch)
    for table in ("ranges", "addresses"):
        found += [f"{table} {row}" for row in ground.database.execute(f"SELECT * FROM {table}")]  # noqa: S608
    return found


def test_what_it_changes_is_a_layer(ground: Ground, below: list[Result]) -> None:
    """New files, links, pipes, owners, modes and what is gone; and nothing of the mounts that the step had."""
    script = (
        "mkdir -p /a/b && echo hi > /a/b/c && ln /a/b/c /a/b/d && ln -s /etc/passwd /a/e && mkfifo /a/f"
        " && chown 1000:5 /a/b/c && chmod 4750 /a/b/c && rm -r /home && rm -r /usr && mkdir -p /usr/new"
    )
    layer = step.run(ground, below, shell(script))
    found = entries(ground, layer)
    names = [".wh.home", "a", "a/b", "a/b/c", "a/b/d", "a/e", "a/f", "usr", "usr/.wh..wh..opq", "usr/new"]
    assert sorted(found) == names
    assert (found["a/b/c"].uid, found["a/b/c"].gid, found["a/b/c"].mode) == (1000, 5, 0o4750)
    assert found["a/b/d"].islnk()
    assert found["a/e"].linkname == "/etc/passwd"
    assert found["a/f"].isfifo()
    assert left(ground) == []


def test_the_layer_is_what_the_next_step_sees(ground: Ground, below: list[Result]) -> None:
    """A chain of steps: whiteouts hide, opaque directories hide, owners and times stay."""
    first = step.run(ground, below, shell("rm -r /usr; mkdir /usr; echo 1 > /usr/one; chown 7 /usr/one; rm /bin/awk"))
    second = step.run(ground, [*below, first], shell("echo 2 > /usr/two"))
    text = said(ground, [*below, first, second], shell("ls /usr; stat -c %u /usr/one; test -e /bin/awk || echo gone"))
    assert text.split() == ["one", "two", "7", "gone"]


def test_nothing_changed_is_an_empty_layer(ground: Ground, below: list[Result]) -> None:
    """With stubs for mounts in places that the image does not have, and the machine's trust, the layer is empty."""
    mounts = (Tmpfs(target="/not/there/yet"), File(target="/etc/secret", content=b"x"))
    layer = step.run(ground, below, shell("ls /run/sampan /not/there/yet /etc/secret", mounts=mounts))
    assert entries(ground, layer) == {}


def test_equal_changes_are_equal_layers(ground: Ground, below: list[Result]) -> None:
    """With an epoch two runs give one digest, and no time is later."""
    what = shell("mkdir /x; for i in 3 1 2; do echo $i > /x/$i; done")
    one, other = (step.run(ground, below, what, epoch=1_000_000) for _ in range(2))
    assert one.digest == other.digest
    assert {entry.mtime for entry in entries(ground, one).values()} == {1_000_000}


def test_the_container(ground: Ground, below: list[Result]) -> None:
    """It is root of a user namespace, alone in its pid namespace, with docker's capabilities, a name and a network."""
    script = (
        "id -u; echo $$; hostname; grep CapEff /proc/self/status; grep Seccomp: /proc/self/status;"
        " cut -c 12-22 /proc/self/uid_map; ls /sys/class/net | xargs; echo $HOME; test -w /dev/null && echo null"
    )
    words = said(ground, below, shell(script)).split("\n")
    assert words[:3] == ["0", "1", "build"]
    assert words[3].endswith("00000000a80425fb")
    assert words[4].split()[1] == "2"
    assert int(words[5]) >= 0x6000_0000
    assert words[6:9] == ["eth0 lo", "/root", "null"]


def test_networks(ground: Ground, below: list[Result]) -> None:
    """`none` has a loopback only; `host` the machine's interfaces; added hosts are in /etc/hosts."""
    assert said(ground, below, shell("ls /sys/class/net", network="none")) == "lo\n"
    assert "lo" in said(ground, below, shell("ls /sys/class/net", network="host"))
    text = said(ground, below, shell("cat /etc/hosts", add_hosts=("there:192.0.2.7", "here:host-gateway")))
    assert "192.0.2.7\tthere\n" in text
    assert "\there\n" in text
    assert left(ground) == []


def test_users(ground: Ground, below: list[Result]) -> None:
    """A user is looked up in the image, with groups; HOME is that user's; a stranger is an error."""
    assert said(ground, below, shell("id -u; id -g; echo $HOME", user="user")).split() == ["1000", "1000", "/home"]
    assert said(ground, below, shell("id -u; id -g", user="1234:4321")).split() == ["1234", "4321"]
    with pytest.raises(InvalidArgument, match="not in the image"):
        step.run(ground, below, shell("true", user="nobody-here"))
    assert left(ground) == []


def test_a_failure_says_what_and_why(ground: Ground, below: list[Result]) -> None:
    """Command and status in the error, its last lines as the cause; a signal is named; nothing is left."""
    with pytest.raises(StepFailed, match=r"`echo out; echo err >&2; exit 3` ended with status 3") as caught:
        step.run(ground, below, shell("echo out; echo err >&2; exit 3"))
    assert caught.value.status == 3
    assert str(caught.value.__cause__) == "out\nerr"
    with pytest.raises(StepFailed, match="was killed by signal 9"):
        step.run(ground, below, shell("sh -c 'kill -9 $$; :'; exit $?"))
    with pytest.raises(CommandNotFound):
        step.run(ground, below, Step(args=("/no/such/program",)))
    assert left(ground) == []


def test_time_out(ground: Ground, below: list[Result]) -> None:
    """What takes too long is killed with all its children."""
    with pytest.raises(Exhausted, match="not ended"):
        step.run(ground, below, shell("sleep 60 & sleep 60"), timeout_seconds=0.5)
    assert left(ground) == []


def test_mounts(ground: Ground, below: list[Result], tmp_path: Path) -> None:
    """Directories, other layers, tmpfs and files are seen as told, and none of it is in the layer."""
    (tmp_path / "here").write_text("machine\n", encoding="utf-8")
    other = step.run(ground, below, shell("mkdir /o && echo layer > /o/file && chown 9 /o/file"))
    mounts = (
        Directory(target="/m/dir", source=str(tmp_path)),
        Layers(target="/m/ro", layers=(*below, other), path="/o"),
        Layers(target="/m/rw", layers=(other,), path="/o", writable=True),
        Tmpfs(target="/m/tmp", size_bytes=1 << 20),
        File(target="/m/secret", content=b"word\n", mode=0o440, uid=1000, gid=5),
    )
    script = (
        "cat /m/dir/here /m/ro/file /m/rw/file /m/secret; echo x > /m/rw/file; cat /m/rw/file; ls -n /m/ro/file;"
        " (echo y > /m/ro/file) 2>/dev/null || echo read-only; (echo z > /m/dir/here) 2>/dev/null || echo read-only;"
        " stat -c '%u %g %a' /m/secret; df -k /m/tmp | tail -1 | tr -s ' ' | cut -d ' ' -f 2; touch /m/tmp/t"
    )
    pieces: list[bytes] = []
    layer = step.run(ground, below, shell(script, mounts=mounts), output=pieces.append)
    lines = b"".join(pieces).decode().split("\n")
    assert lines[:5] == ["machine", "layer", "layer", "word", "x"]
    assert " 9 " in lines[5]
    assert lines[6:10] == ["read-only", "read-only", "1000 5 440", "1024"]
    assert entries(ground, layer) == {}
    assert left(ground) == []


def test_a_link_of_a_layer_leads_nowhere_else(ground: Ground, below: list[Result]) -> None:
    """SECURITY: the source of a mount is looked up within its layers, whatever links they have."""
    other = step.run(ground, below, shell("mkdir /o; ln -s ../../../../../../etc /o/out; ln -s /etc/passwd /o/abs"))
    mounts = (
        Layers(target="/m", layers=(*below, other), path="/o/out"),
        Layers(target="/p", layers=(*below, other), path="/o/abs"),
    )
    assert said(ground, below, shell("ls /m; head -1 /p", mounts=mounts)) == (
        "group\npasswd\nroot:x:0:0:root:/root:/bin/sh\n"
    )
    with pytest.raises(SampanError, match="does not exist"):
        step.run(ground, below, shell("true", mounts=(Layers(target="/m", layers=(other,), path="/nothing"),)))


def test_caches_last(ground: Ground, below: list[Result]) -> None:
    """A cache has what the step before put there, with the owner that it was given; another id is another cache."""
    mounts = (Cache(target="/root/.cache/pip", id="pip", uid=1000, mode=0o700),)
    layer = step.run(ground, below, shell("echo kept > /root/.cache/pip/x", mounts=mounts))
    assert entries(ground, layer) == {}
    text = said(ground, below, shell("cat /root/.cache/pip/x; stat -c '%u %a' /root/.cache/pip", mounts=mounts))
    assert text == "kept\n1000 700\n"
    assert said(ground, below, shell("ls /c", mounts=(Cache(target="/c", id="other"),))) == ""


def test_the_machine_s_trust(ground: Ground, below: list[Result], tmp_path: Path) -> None:
    """Certificates, index, proxies and passwords are there, in memory only; what the step says itself wins."""
    certificate = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"
    (tmp_path / "ca.pem").write_text(certificate, encoding="utf-8")
    (tmp_path / "netrc").write_text("machine example.org login a password b\n", encoding="utf-8")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "a.whl").write_text("wheel", encoding="utf-8")
    ground.settings.environment = {
        "HOME": str(tmp_path), "SSL_CERT_FILE": str(tmp_path / "ca.pem"), "NETRC": str(tmp_path / "netrc"),
        "https_proxy": "http://proxy.example.org:3128", "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": "https://user:word@index.example.org/simple", "PIP_FIND_LINKS": str(tmp_path / "wheels"),
    }  # fmt: skip
    script = (
        "cat $SSL_CERT_FILE | grep -c QUJD; cat $NETRC; echo $https_proxy $HTTPS_PROXY; cat $PIP_CONFIG_FILE;"
        " cat /run/sampan/machine-0/*.whl; echo; echo $CURL_CA_BUNDLE; (echo x > /run/sampan/x) 2>/dev/null || echo ro"
    )
    layer_texts: list[bytes] = []
    what = shell(script, env=("CURL_CA_BUNDLE=/mine",))
    layer = step.run(ground, below, what, output=layer_texts.append)
    lines = b"".join(layer_texts).decode().split("\n")
    assert lines[0] == "1"
    assert lines[1] == "machine example.org login a password b"
    assert lines[2] == "http://proxy.example.org:3128 http://proxy.example.org:3128"
    assert "index-url = https://user:word@index.example.org/simple" in lines
    assert "find-links = /run/sampan/machine-0" in lines
    assert lines[-4:] == ["wheel", "/mine", "ro", ""]
    assert entries(ground, layer) == {}


def test_an_index_on_the_machine_s_loopback(ground: Ground, below: list[Result]) -> None:
    """What listens on this machine's loopback and is named by a setting is reached by the same address."""
    handler = http.server.SimpleHTTPRequestHandler
    handler.log_message = lambda *_: None  # type: ignore[method-assign]  # no noise
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        ground.settings.environment = {"PIP_INDEX_URL": f"{url}/simple", "PIP_CONFIG_FILE": "/dev/null"}
        text = said(ground, below, shell(f"wget -q -O - {url}/pyproject.toml | head -1"))
        other = said(ground, below, shell("wget -q -T 2 -O - http://127.0.0.1:9/ 2>&1 || echo refused"))
        server.shutdown()
    assert text == Path("pyproject.toml").read_text(encoding="utf-8").split("\n", 1)[0] + "\n"
    assert "refused" in other


def test_ctrl_c_ends_it_at_once(settings: Settings, ground: Ground, environment: dict[str, str]) -> None:
    """An interrupt ends the step, whatever it ignores, and everything is given back."""
    with _started(environment, "trap '' INT TERM; echo up; sleep 60 & wait") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) != 0
    assert left(ground) == []
    assert _scratches(settings) == {os.path.basename(ground.scratch)}


def test_kill_9_leaves_nothing(settings: Settings, ground: Ground, environment: dict[str, str]) -> None:
    """Kill -9 of a build ends its step; the next step gives its ids and address back, the next build its directory."""
    with _started(environment, "echo up; mkdir -p /a/b; sleep 60") as process:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 5
    while _sleepers() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _sleepers() == []
    assert len(left(ground)) == 2
    step.sweep(ground.database)
    sweep_scratch(settings.root)
    assert left(ground) == []
    assert _scratches(settings) == {os.path.basename(ground.scratch)}


@contextlib.contextmanager
def _started(environment: dict[str, str], script: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a step in another process, which has printed `up`."""
    argv = [sys.executable, "-c", f"import sys\n{PROGRAM}", script, "", "bridge"]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process


def _sleepers() -> list[str]:
    """Return the processes that sleep for a step."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x0060\x00":
                found.append(pid)
    return found


def _scratches(settings: Settings) -> set[str]:
    return set(os.listdir(f"{settings.root}/cache/scratch"))


def test_a_normal_user_with_a_single_id(user: Person) -> None:
    """Without newuidmap: root inside, one owner, and a command that changes owners goes on as if it had."""
    script = "id -u; touch /x; chown 1000:1000 /x && echo changed; mkdir /d; rm -r /home"
    done = user.python(PROGRAM, script, "", "bridge")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["0", "changed"]
    assert [line.split()[1] for line in lines[2:]] == ["d", ".wh.home", "x"]
    assert json.loads(user("images", "--format", "json").stdout.splitlines()[0])


def test_a_normal_user_with_a_range(subordinate: None, user: Person) -> None:
    """With newuidmap owners are what the image says."""
    script = "touch /x; chown 1000:5 /x; exec su -s /bin/sh user -c 'id -u; touch /tmp/mine'"
    done = user.python(PROGRAM, script, "", "none")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "1000"
    assert "layer tmp/mine 0o644 1000 1000" in lines
    assert "layer x 0o644 1000 5" in lines
