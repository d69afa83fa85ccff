"""RUN after COPY: what it saw of the context decides whether it runs again."""

import os
import shutil
import signal
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.build import step
from sampan.build.cache import Result
from sampan.build.step import Step
from sampan.database import connection
from sampan.database.lease import Lease
from sampan.image.content import Content
from sampan.oci.digest import Digest
from tests.build.dockerfile.kitchen import Kitchen

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay]

# Each run leaves another number, so that a test can tell whether it ran.
UNIQUE = "cat /proc/sys/kernel/random/uuid >> /made"
APP = "FROM busybox\nWORKDIR /app\nCOPY . /app\n"


@pytest.fixture
def project(kitchen: Kitchen) -> Kitchen:
    """Return a kitchen whose context is a small project."""
    kitchen.write(".dockerignore", "Dockerfile\n")
    kitchen.write("requirements.txt", "flask\n")
    kitchen.write("app.py", "print(1)\n")
    kitchen.write("pkg/a.py", "a = 1\n")
    kitchen.write("pkg/b.py", "b = 2\n")
    kitchen.write("run.sh", "#!/bin/sh\necho hello\n", mode=0o755)
    os.symlink("pkg/a.py", f"{kitchen.context}/link")
    for path in Path(kitchen.context).rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    return kitchen


def edit(kitchen: Kitchen, path: str, content: str = "changed\n") -> None:
    """Change a file's content and time, as an editor does."""
    kitchen.write(path, content)
    os.utime(f"{kitchen.context}/{path}", (1_700_000_000, 1_700_000_000))


def test_a_change_that_run_did_not_read(project: Kitchen) -> None:
    """The article's Dockerfile: app.py changes, requirements.txt is what RUN reads; it says so, and does not run."""
    text = f"{APP}RUN cat requirements.txt && {UNIQUE}\n"
    first = project.build(text)
    edit(project, "app.py")
    second = project.build(text)
    assert project.made() == ["COPY"]
    assert project.reused() == ["of the context it reads /app/requirements.txt, as before"]
    assert second.layers[-1] == first.layers[-1]
    assert project.content(second, "app/app.py", -2) == "changed\n"
    edit(project, "requirements.txt", "flask\nredis\n")
    third = project.build(text)
    assert project.made() == ["COPY", "RUN"]
    assert "runs again: /app/requirements.txt has changed" in project.said()
    assert third.layers[-1] != second.layers[-1]
    assert project.leftovers() == []


def test_with_shifted_ids(project: Kitchen) -> None:
    """Where no mount can map ids: the mirror shows what is on disk, as the other layers do."""
    text = f"{APP}USER 1000\nRUN cat requirements.txt > /tmp/made\n"
    project.environment["SAMPAN_IDMAP"] = "shift"
    first = project.build(text)
    edit(project, "app.py")
    assert project.build(text).layers[-1] == first.layers[-1]
    assert project.made() == ["COPY"]
    assert project.layer(first)["tmp/made"].uid == 1000


def remove(path: str) -> Callable[[str], None]:
    """Return a change that removes a file."""
    return lambda context: os.unlink(f"{context}/{path}")


def add(path: str) -> Callable[[str], None]:
    """Return a change that adds a file."""

    def act(context: str) -> None:
        os.makedirs(os.path.dirname(f"{context}/{path}"), exist_ok=True)
        Path(context, path).write_text("new\n", encoding="ascii")

    return act


def times(path: str) -> Callable[[str], None]:
    """Return a change of a file's time alone."""
    return lambda context: os.utime(f"{context}/{path}", (1_650_000_000, 1_650_000_000))


def mode(path: str) -> Callable[[str], None]:
    """Return a change of a file's mode alone."""
    return lambda context: os.chmod(f"{context}/{path}", 0o600)


def relink(context: str) -> None:
    """Have the link lead elsewhere."""
    os.unlink(f"{context}/link")
    os.symlink("pkg/b.py", f"{context}/link")


def to_link(context: str) -> None:
    """Replace a directory with a link that leads out of everything."""
    shutil.rmtree(f"{context}/pkg")
    os.symlink("/etc", f"{context}/pkg")


def to_directory(context: str) -> None:
    """Replace a file with a directory."""
    os.unlink(f"{context}/app.py")
    os.mkdir(f"{context}/app.py")


AGAIN, TAKEN = ["COPY", "RUN"], ["COPY"]
# What RUN does, what happens to the context, and whether it has to run again.
CASES = {
    "a name that was absent": ("test -e new.txt || true", add("new.txt"), AGAIN),
    "a name nobody asked for": ("test -e other.txt || true", add("new.txt"), TAKEN),
    "a directory that was absent": ("cat etc/x/y 2>/dev/null || true", add("etc/x/y"), AGAIN),
    "a file that goes": ("test -e app.py", remove("app.py"), AGAIN),
    "a listing": ("ls", add("new.txt"), AGAIN),
    "a listing and a change inside": ("echo *", add("app.py"), TAKEN),
    "a glob": ("echo *.py", add("new.py"), AGAIN),
    "a listing of another directory": ("ls /bin", add("new.txt"), TAKEN),
    "a listing below": ("ls pkg", add("pkg/c.py"), AGAIN),
    "the time of what was read": ("cat app.py", times("app.py"), TAKEN),
    "the time of what was read, with a change": (
        "cat app.py", lambda context: (times("app.py")(context), add("new.txt")(context)), AGAIN,
    ),
    "the time of another": (
        "cat requirements.txt", lambda context: (times("app.py")(context), add("new.txt")(context)), TAKEN,
    ),
    "a size alone": ("stat -c %s app.py", add("app.py"), AGAIN),
    "a mode": ("test -r app.py", mode("app.py"), AGAIN),
    "a mode of another": ("test -r requirements.txt", mode("app.py"), TAKEN),
    "a link that was read": ("readlink link", relink, AGAIN),
    "a link that was followed": ("cat link", relink, AGAIN),
    "what a link leads to": ("cat link", add("pkg/a.py"), AGAIN),
    "a link that nobody followed": ("cat app.py", relink, TAKEN),
    "a directory that becomes a link": ("cat pkg/a.py", to_link, AGAIN),
    "a file that becomes a directory": ("test -f app.py", to_directory, AGAIN),
    "a program of the context": ("./run.sh", add("run.sh"), AGAIN),
    "a copy up": ("echo more >> app.py", add("app.py"), AGAIN),
    "a removal": ("rm app.py", add("app.py"), AGAIN),
    "a removal beside": ("rm app.py", add("pkg/a.py"), TAKEN),
    "a tree that is removed": ("rm -r pkg", add("pkg/c.py"), AGAIN),
    "a search": ("find . -name nothing", add("pkg/c.py"), AGAIN),
    "a search for content": ("grep -r nothing . || true", add("pkg/a.py"), AGAIN),
    "a mmap'd read": ("cmp app.py app.py", add("app.py"), AGAIN),
    "nothing at all": ("true", add("app.py"), TAKEN),
}  # fmt: skip


@pytest.mark.parametrize(("command", "happens", "expected"), CASES.values(), ids=CASES)
def test_what_is_seen(project: Kitchen, command: str, happens: Callable[[str], None], expected: list[str]) -> None:
    """Whatever a step could have told apart makes it run again; nothing else does."""
    text = f"{APP}RUN {command}; {UNIQUE}\n"
    first = project.build(text)
    happens(project.context)
    second = project.build(text)
    if second.layers == first.layers:
        # COPY's own key holds no times, as docker's does not.
        assert project.made() == []
        assert expected == TAKEN
        return
    assert project.made() == expected
    assert (second.layers[-1] == first.layers[-1]) == (expected == TAKEN)


def test_no_cache_runs_and_is_what_later_builds_go_by(project: Kitchen) -> None:
    """Who wants the newest says so once; after it nothing older comes back."""
    text = f"{APP}RUN {UNIQUE}\n"
    old = project.build(text)
    edit(project, "app.py")
    new = project.build(text, no_cache=True)
    assert project.made() == ["WORKDIR", "COPY", "RUN"]
    assert new.layers[-1] != old.layers[-1]
    edit(project, "app.py", "2\n")
    assert project.build(text).layers[-1] == new.layers[-1]


def test_a_change_back_finds_the_older_run(project: Kitchen) -> None:
    """Two branches of a repository, one after the other, each with another change beside."""
    text = f"{APP}RUN cat requirements.txt && {UNIQUE}\n"
    first = project.build(text)
    edit(project, "requirements.txt", "django\n")
    second = project.build(text)
    edit(project, "requirements.txt", "flask\n")
    os.utime(f"{project.context}/requirements.txt", (1_600_000_000, 1_600_000_000))
    edit(project, "app.py")
    assert project.build(text).layers[-1] == first.layers[-1]
    assert project.made() == ["COPY"]
    edit(project, "requirements.txt", "django\n")
    assert project.build(text).layers[-1] == second.layers[-1]


def test_several_layers_and_runs(project: Kitchen) -> None:
    """Each RUN is taken or run for itself; one that runs again makes those that stand on it run, if it came to more."""
    text = (
        f"FROM busybox\nCOPY pkg /a/\nCOPY app.py /b/\nRUN cat /b/app.py; {UNIQUE}\nCOPY requirements.txt /c/\n"
        f"RUN cat /a/a.py; cat /c/requirements.txt; {UNIQUE}\nRUN echo /a/* /b/* /c/* > /list\n"
    )
    first = project.build(text)
    edit(project, "pkg/b.py")
    second = project.build(text)
    assert project.made() == ["COPY", "COPY", "COPY"]
    assert second.layers[-3:] == first.layers[-3:]
    edit(project, "requirements.txt")
    project.build(text)
    assert project.made() == ["COPY", "RUN", "RUN"]
    edit(project, "app.py")
    project.build(text)
    assert project.made() == ["COPY", "RUN", "COPY", "RUN", "RUN"]


def test_arguments_and_environment_are_no_facts(project: Kitchen) -> None:
    """They are in the key: another value is another step."""
    text = f"{APP}ARG A\nENV B=$A\nRUN echo $A; {UNIQUE}\n"
    one = project.build(text, arguments={"A": "1"})
    edit(project, "app.py")
    two = project.build(text, arguments={"A": "2"})
    assert project.made() == ["COPY", "RUN"]
    assert two.layers[-1] != one.layers[-1]


def test_a_user_of_the_context(project: Kitchen) -> None:
    """USER is looked up in a passwd that was copied: who that is, is a fact too."""
    passwd = "root:x:0:0::/:/bin/sh\nme:x:{}:{}::/:/bin/sh\n"
    text = "FROM busybox\nCOPY etc /etc\nUSER me\nRUN touch /tmp/mine\n"
    project.write("etc/passwd", passwd.format(1234, 1234))
    first = project.build(text)
    assert project.layer(first)["tmp/mine"].uid == 1234
    edit(project, "etc/passwd", passwd.format(1235, 1235))
    second = project.build(text)
    assert project.layer(second)["tmp/mine"].uid == 1235


def test_more_names_than_are_noted(project: Kitchen) -> None:
    """Who asks for thousands of names that are not there depends on everything; so does who sees thousands that are."""
    for number in range(4100):
        project.write(f"many/{number}", "")
    for command in ("i=0; while [ $i -lt 4100 ]; do test -e no$i; i=$((i+1)); done", "ls -l many > /dev/null"):
        text = f"{APP}RUN {command}; {UNIQUE}\n"
        project.build(text)
        edit(project, "app.py", command)
        project.build(text)
        assert project.made() == ["COPY", "RUN"]


def test_many_open_files(project: Kitchen) -> None:
    """A step may have as many files of the context open as its own limit lets it."""
    for number in range(1500):
        project.write(f"many/{number}", "")
    script = 'i=0; while [ $i -lt 1500 ]; do eval "exec $((i + 10))</app/many/$i" || exit 1; i=$((i+1)); done'
    project.build(f"{APP}RUN ulimit -n 4096 && {script}\n")


def test_docker_s_own_way(project: Kitchen) -> None:
    """The setting `build.cache` is the switch back: then every change counts."""
    text = f"{APP}RUN {UNIQUE}\n"
    project.environment["SAMPAN_BUILD_CACHE"] = "files"
    first = project.build(text)
    edit(project, "app.py")
    assert project.build(text).layers[-1] != first.layers[-1]
    assert project.made() == ["COPY", "RUN"]


# What RUN can do to files of the context: the layer must be the same, shown by a mirror or as they are.
EVERYTHING = r"""
set -e
cd /app
echo more >> app.py; chmod 700 pkg/a.py; chown 7:8 pkg/b.py; mv run.sh moved.sh; rm link; ln -s pkg link
ln requirements.txt second; mkdir pkg/sub; mv pkg/sub other; cp -a pkg copy; rm -r pkg; mkdir pkg; : > pkg/new
stat -c '%n %F %a %u:%g %s %h' copy/* /app/* > /stat
stat -c '%n %Y' copy/a.py copy/b.py big odd/* requirements.txt moved.sh > /times; stat -c %b big odd/* > /blocks
cat copy/a.py big odd/* > /content; ls -A . odd > /names
find / -xdev -path /proc -prune -o -name '*.py' -print > /found
dd if=big of=/tail bs=1 skip=2999990 2>/dev/null
touch -d '2020-01-01' app.py copy/a.py; mkfifo pipe; sh moved.sh > /ran; test ! -w /app/big || test -w /app/big
"""


def test_the_same_layer_as_without(project: Kitchen) -> None:
    """Reads, copies up, renames, links, removals, modes, large files and odd names: nothing in the step can tell."""
    os.mkdir(f"{project.context}/odd")
    for name in (b"new\nline", b"\xff\xfe", "中文".encode(), b"-rf", b"a b"):
        Path(os.fsdecode(os.path.join(os.fsencode(project.context), b"odd", name))).write_bytes(name)
    Path(project.context, "big").write_bytes(os.urandom(3_000_000))
    below = project.build(APP)
    found = {}
    for traced in ((), (len(below.layers) - 1,)):
        with connection.open(project.settings) as database, Lease(database, "build") as lease:
            ground = _Ground(project, database, lease)
            pairs = zip(below.layers, below.diff_ids, strict=True)
            layers = [Result(digest, Digest.parse(diff_id), 0, {}) for digest, diff_id in pairs]
            facts: list[object] = []
            what = Step(args=("/bin/sh", "-c", EVERYTHING), env=("PATH=/bin",), network="none")
            made = step.run(ground, layers, what, epoch=1, traced=traced, on_facts=facts.append)
            assert bool(facts) == bool(traced)
            found[traced] = _entries(ground.content.path(made.digest))
    without, mirrored = found.values()
    assert mirrored == without


class _Ground:
    """What a step needs of a build."""

    def __init__(self, kitchen: Kitchen, database: connection.Database, lease: Lease) -> None:
        self.settings = kitchen.settings
        self.database = database
        self.lease = lease
        self.content = Content(self.settings.root, lease)
        self.sink = kitchen.events.append
        self.scratch = f"{kitchen.place}/scratch"
        os.makedirs(self.scratch, exist_ok=True)


def _entries(path: str) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    with tarfile.open(path) as archive:
        for item in archive:
            file = archive.extractfile(item) if item.isreg() else None
            content = file.read() if file else b""
            found[item.name] = (item.type, item.mode, item.uid, item.gid, item.linkname, item.mtime, content)
    return found


def test_a_mirror_that_dies(project: Kitchen) -> None:
    """The step's files are gone in the middle of it: it runs once more, without, and nothing of it is believed."""
    script = (
        "test -e /c/2 && exit; touch /c/2; echo begun; while cat /app/app.py > /dev/null; do sleep 0.05; done; false"
    )
    text = f"{APP}RUN --mount=type=cache,target=/c {UNIQUE}; {script}\n"
    killer = threading.Thread(target=lambda: os.kill(_mirror_when(lambda: "begun" in project.said()), signal.SIGKILL))
    killer.start()
    project.build(text)
    killer.join()
    assert project.warned() == [
        "the process that shows a step its files ended before the step; it runs once more, without"
    ]
    edit(project, "app.py")
    project.build(text)
    assert project.made() == ["COPY", "RUN"]


def _mirror_when(is_time: Callable[[], bool]) -> int:
    """Wait for the time, and return the process that serves the mirrors: a child of our child."""
    while not is_time():
        time.sleep(0.01)
    [found] = [pid for child in _children(os.getpid()) for pid in _children(child) if _has_fuse(pid)]
    return found


def _children(pid: int) -> list[int]:
    names = [name for name in os.listdir("/proc") if name.isdigit()]
    return [int(name) for name in names if _parent(name) == pid]


def _parent(pid: str) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _has_fuse(pid: int) -> bool:
    return "fuse" in "".join(os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
