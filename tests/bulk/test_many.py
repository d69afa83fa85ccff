"""Many at once, and large: twenty containers side by side, an image of thirteen thousand files, a log that rotates."""

import concurrent.futures
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.plugin.ground import Command

pytestmark = [pytest.mark.bulk, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns]

MANY = 20
FILES = 13_000


def test_many_containers_at_once(sampan: Command, busybox_tar: str) -> None:
    """Twenty containers start at the same time, each with its own address and name, and all of them go."""
    sampan("import", busybox_tar, "busybox", check=True)
    names = [f"many-{number}" for number in range(MANY)]
    with concurrent.futures.ThreadPoolExecutor(MANY) as pool:
        list(pool.map(lambda name: sampan("run", "-d", "--name", name, "busybox", "sleep", "600", check=True), names))
    documents = json.loads(sampan("inspect", *names, check=True).stdout)
    assert len({document["NetworkSettings"]["IPAddress"] for document in documents}) == MANY
    with concurrent.futures.ThreadPoolExecutor(MANY) as pool:
        list(pool.map(lambda name: sampan("rm", "-f", name, check=True), names))
    assert sampan("ps", "-aq", check=True).stdout == ""


def test_many_short_containers(sampan: Command, busybox_tar: str) -> None:
    """A hundred containers, four at a time, all end with their own status and leave nothing."""
    sampan("import", busybox_tar, "busybox", check=True)

    def run(number: int) -> tuple[int, str]:
        done = sampan("run", "--rm", "busybox", "sh", "-c", f"exit {number}")
        return done.returncode, done.stderr

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(run, range(100)))
    wrong = [(number, answer) for number, answer in enumerate(answers) if answer != (number, "")]
    assert wrong == []
    assert sampan("ps", "-aq", check=True).stdout == ""


def test_an_image_of_many_files(sampan: Command, busybox_tar: str, place: str) -> None:
    """An image of thirteen thousand files imports, runs, and holds every one of them."""
    path = f"{place}/big.tar"
    with tarfile.open(path, "w") as tar, tarfile.open(busybox_tar) as busybox:
        for member in busybox:
            tar.addfile(member, busybox.extractfile(member) if member.isreg() else None)
        for number in range(FILES):
            entry = tarfile.TarInfo(f"srv/{number % 100}/{number}")
            entry.size = 10_000
            tar.addfile(entry, io.BytesIO(bytes(10_000)))
    sampan("import", path, "big", check=True, timeout=120)
    counted = sampan("run", "--rm", "big", "sh", "-c", "find /srv -type f | wc -l", timeout=120)
    assert counted.stdout.strip() == str(FILES)
    sampan("rmi", "big", check=True)


def test_a_log_stays_bounded(sampan: Command, busybox_tar: str, place: str) -> None:
    """A container that writes 60 MB leaves at most three files of 10 MB and a little."""
    sampan("import", busybox_tar, "busybox", check=True)
    words = "yes abcdefghijklmnopqrstuvwxyz0123456789 | head -c 60000000"
    sampan("run", "-d", "--name", "loud", "busybox", "sh", "-c", words, check=True)
    assert sampan("wait", "loud", timeout=120, check=True).stdout == "0\n"
    sizes = [file.stat().st_size for file in Path(place, "r", "containers").rglob("*") if "log" in file.name]
    assert sum(sizes) < 33_000_000
    assert sampan("logs", "--tail", "1", "loud", check=True).stdout.startswith("abc")
    sampan("rm", "loud", check=True)
