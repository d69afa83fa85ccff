"""What Sampan saves others read, and what others save Sampan reads."""

import json
import shutil
from pathlib import Path

import pytest

from tests.peer.conftest import Peer
from tests.plugin.ground import PROJECT, Command

pytestmark = [pytest.mark.peer, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns]


@pytest.fixture
def hello(sampan: Command, place: str) -> str:
    """Build the example and return the path of its archive."""
    project = f"{place}/hello"
    shutil.copytree(PROJECT / "examples" / "hello-flask", project, ignore=shutil.ignore_patterns("sampan.lock"))
    sampan("build", "-t", "hello", project, check=True, timeout=300)
    sampan("save", "-o", f"{place}/hello.tar", "hello", check=True)
    return f"{place}/hello.tar"


@pytest.mark.network
def test_skopeo_reads_what_is_saved(hello: str, peer: Peer, place: str) -> None:
    """Skopeo finds an OCI image in the archive, and copies it, which verifies every digest."""
    found = peer("skopeo", "inspect", f"oci-archive:{hello}")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["Os"] == "linux"
    copied = peer("skopeo", "copy", f"oci-archive:{hello}", f"dir:{place}/copied")
    assert copied.returncode == 0, copied.stderr
    raw = peer("skopeo", "inspect", "--raw", f"oci-archive:{hello}")
    assert Path(place, "copied", "manifest.json").read_text(encoding="utf-8") == raw.stdout


@pytest.mark.network
def test_docker_runs_what_is_saved(hello: str, peer: Peer, sampan: Command) -> None:
    """Docker loads the archive, gives it the same image id, and runs the program in it."""
    loaded = peer("docker", "load", "-i", hello)
    assert loaded.returncode == 0, loaded.stderr
    try:
        ours = json.loads(sampan("inspect", "hello", check=True).stdout)[0]["Id"]
        assert peer("docker", "image", "inspect", "--format", "{{.Id}}", "hello").stdout.strip() == ours
        ran = peer("docker", "run", "--rm", "hello", "python", "-c", "import flask, os; print(os.getuid())")
        assert (ran.stdout, ran.returncode) == ("65532\n", 0), ran.stderr
    finally:
        peer("docker", "rmi", "-f", "hello")


def test_what_docker_saves_is_loaded(both: dict[str, Command], place: str) -> None:
    """`docker save` and `sampan load` keep the image id, and the image runs."""
    saved = both["docker"]("save", "-o", f"{place}/busybox.tar", "busybox")
    assert saved.returncode == 0, saved.stderr
    identity = both["docker"]("image", "inspect", "--format", "{{.Id}}", "busybox").stdout.strip()
    assert both["sampan"]("rmi", "busybox").returncode == 0
    loaded = both["sampan"]("load", "-i", f"{place}/busybox.tar")
    assert loaded.returncode == 0, loaded.stderr
    assert json.loads(both["sampan"]("inspect", "busybox").stdout)[0]["Id"] == identity
    assert both["sampan"]("run", "--rm", "busybox", "echo", "aboard").stdout == "aboard\n"
