"""`sampan doctor`: what it finds here, and what it says where something is missing."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.plugin.person import USER, Person

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns]

Command = Callable[..., "subprocess.CompletedProcess[str]"]
SOURCE = str(Path(__file__).resolve().parents[2] / "src")


def _found(done: "subprocess.CompletedProcess[str]") -> dict[str, dict[str, object]]:
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["name"]: row for row in rows}


def test_a_machine_that_has_it_all(sampan: Command) -> None:
    """Where containers run, no part is missing, and nothing of the tries stays behind (the leak check)."""
    done = sampan("doctor", "--format", "json")
    assert done.returncode == 0
    found = _found(done)
    assert set(found) == {
        "kernel", "store", "user namespaces", "after a reboot", "layers", "limits", "network", "seccomp",
        "traced builds", "Debian packages",
    }  # fmt: skip
    assert {row["state"] for row in found.values()} <= {"ok", "limited"}
    assert sampan("doctor").stdout.startswith("ok      kernel")


def test_what_is_missing_is_said_with_the_way_out(environment: dict[str, str]) -> None:
    """No user namespace may be made: status 1, the switch by name, and no try of what stands on it."""
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from sampan.cli.app import main\n"
        "open('/proc/sys/user/max_user_namespaces', 'w').write('0')\n"
        "sys.exit(main(['doctor', '--format', 'json']))"
    )
    # In a user namespace of the test's own, whose limit is no one else's.
    argv = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-I", "-c", program, SOURCE]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 1, done.stderr
    found = _found(done)
    assert found["user namespaces"]["state"] == "missing"
    assert "max_user_namespaces" in str(found["user namespaces"])
    assert "network" not in found


def test_a_store_that_cannot_be(sampan: Command, environment: dict[str, str]) -> None:
    """A store on a path that is a file is one finding, not the end of the others."""
    environment["SAMPAN_ROOT"] = "/etc/hostname/store"
    found = _found(sampan("doctor", "--format", "json"))
    assert found["store"]["state"] == "missing"
    assert found["network"]["state"] == "ok"


def test_reset_after_a_doctor_alone(sampan: Command, environment: dict[str, str], place: str) -> None:
    """What `doctor` leaves where there is no store yet is no foreign directory; one with another file in it is."""
    environment["SAMPAN_ROOT"] = f"{place}/store"
    environment["SAMPAN_RUN"] = f"{place}/store/run"
    sampan("doctor", check=True)
    sampan("system", "reset", "--force", check=True)
    assert not Path(place, "store").exists()
    Path(place, "store").mkdir()
    Path(place, "store", "thesis.txt").touch()
    done = sampan("system", "reset", "--force")
    assert done.returncode == 1
    assert "is not a store of Sampan" in done.stderr
    assert Path(place, "store", "thesis.txt").exists()


def test_a_normal_user_hears_what_root_can_do_for_him(user: Person, subordinates: str) -> None:
    """Without a range of ids, pasta, limits: each is `limited` with one command, for root and with his name."""
    found = _found(user("doctor", "--format", "json", check=True))
    ids = found["user ids"]
    if subordinates:
        assert ids["state"] == "ok"
    else:
        assert ids["state"] == "limited"
        told = str(ids["mending"])
        assert f"--add-subgids 100000-165535 {USER}`" in told or "apt install uidmap" in told
    for name in ("way out", "limits", "after logout", "after a reboot"):
        assert found[name]["state"] == "ok" or found[name]["mending"], name
    # What the holder said to an earlier command is not lost; how much of the disk is free may change.
    again = _found(user("doctor", "--format", "json", check=True))
    assert {**again, "store": None} == {**found, "store": None}
