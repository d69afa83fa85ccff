"""What outlives a container: files of a bind mount, of a named volume, and of a database server."""

import time
from pathlib import Path

import pytest

from tests.plugin.ground import Command

pytestmark = [
    pytest.mark.bulk, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.network,
]  # fmt: skip

VISIT = """
import sqlite3
with sqlite3.connect("/data/shop.db") as database:
    database.execute("CREATE TABLE IF NOT EXISTS visit (number INTEGER PRIMARY KEY)")
    database.execute("INSERT INTO visit DEFAULT VALUES")
    print(database.execute("SELECT COUNT(*) FROM visit").fetchone()[0])
"""
ACCOUNT = {
    "MYSQL_ROOT_PASSWORD": "rootpassword", "MYSQL_DATABASE": "mydatabase",
    "MYSQL_USER": "myuser", "MYSQL_PASSWORD": "mypassword",
}  # fmt: skip
READY_SECONDS = 120


def test_sqlite_in_a_directory_of_this_machine(shared: Command, python_image: str, tmp_path: Path) -> None:
    """Three containers, one after the other, count on in one file, which is the caller's on this machine."""
    data = tmp_path / "data"
    data.mkdir()
    counts = [
        shared("run", "--rm", "-v", f"{data}:/data", python_image, "python", "-c", VISIT, check=True).stdout
        for _ in range(3)
    ]
    assert counts == ["1\n", "2\n", "3\n"]
    assert [path.name for path in data.iterdir()] == ["shop.db"]
    assert (data / "shop.db").stat().st_uid == 0
    # Without the mount there is nothing of it.
    done = shared("run", "--rm", python_image, "python", "-c", "import os; print(os.path.exists('/data'))", check=True)
    assert done.stdout == "False\n"


def test_sqlite_in_a_named_volume(shared: Command, python_image: str) -> None:
    """A volume counts on over containers, even over one that fails; removed, it begins at one again."""
    words = ("run", "--rm", "-v", "visits:/data", python_image, "python", "-c")
    assert shared(*words, VISIT, check=True).stdout == "1\n"
    failed = shared(*words, f"{VISIT}\nimport sys; sys.exit(3)\n")
    assert (failed.returncode, failed.stdout) == (3, "2\n")
    assert shared(*words, VISIT, check=True).stdout == "3\n"
    shared("volume", "rm", "visits", check=True)
    assert shared(*words, VISIT, check=True).stdout == "1\n"
    shared("volume", "rm", "visits", check=True)


def test_mysql_in_a_named_volume(shared: Command, mysql_image: str) -> None:
    """A table of a real server is in the next server on the volume, which asks for no password to be set again."""
    _serve(shared, mysql_image, *(word for name, value in ACCOUNT.items() for word in ("-e", f"{name}={value}")))
    _ask(shared, "CREATE TABLE visit (number INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(20) CHARACTER SET utf8mb4)")
    _ask(shared, "INSERT INTO visit (name) VALUES ('Ada'), ('小舟'), ('Grace')")
    assert _ask(shared, "SELECT COUNT(*) FROM visit") == "3\n"
    shared("stop", "-t", "30", "db", check=True)
    shared("rm", "db", check=True)
    _serve(shared, mysql_image)
    assert _ask(shared, "SELECT COUNT(*), MAX(name = '小舟') FROM visit") == "3\t1\n"
    shared("rm", "-f", "db", check=True)
    shared("volume", "rm", "mydata", check=True)


def _serve(sampan: Command, image: str, *words: str) -> None:
    """Start the server on its volume, and wait until it answers the account over the network."""
    sampan("run", "-d", "--name", "db", "-v", "mydata:/var/lib/mysql", *words, image, check=True)
    deadline = time.monotonic() + READY_SECONDS
    while sampan(*_query("SELECT 1")).returncode != 0:
        assert time.monotonic() < deadline, sampan("logs", "db").stderr
        assert "Up" in sampan("ps", check=True).stdout, sampan("logs", "db").stderr
        time.sleep(0.3)


def _ask(sampan: Command, query: str) -> str:
    return sampan(*_query(query), check=True).stdout


def _query(query: str) -> tuple[str, ...]:
    client = ("mysql", "--protocol=tcp", "-h", "127.0.0.1", "-u", ACCOUNT["MYSQL_USER"], "--batch", "-N")
    password = f"MYSQL_PWD={ACCOUNT['MYSQL_PASSWORD']}"
    return (
        "exec", "-e", password, "db", *client, "--default-character-set=utf8mb4", ACCOUNT["MYSQL_DATABASE"], "-e", query
    )  # fmt: skip
