"""Taking down what a start put up: network, cgroup, socket, and with `--rm` the files. Hot path."""

import os

from sampan.engine import connection as links
from sampan.engine import fault, state
from sampan.runtime import cgroup
from sampan.settings.configuration import Settings
from sampan.storage import trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.document import Document

# What is left of a container that removes itself: the tombstone that the next command's sweep reads.
TOMBSTONE = ("state.json", "lock")


def release(document: "Document") -> None:
    """Let the published ports go, so that who sees the exit may publish them again. Idempotent."""
    network = document["network"]
    if not network.get("is_released"):
        network["is_released"] = True
        links.release(network)


def all(document: "Document", reach: "Callable[[str], None]") -> bool:
    """Do it all; tell whether nothing is left. What cannot be removed stays for `sweep`, as after a crash."""
    done = [_attempt(lambda: release(document)), run(document, reach)]
    reach(fault.MONITOR_TORN_DOWN)
    for name in {document["name"], state.read_name(document["directory"], document["name"])}:
        state.withdraw_name(document["run"], name, document["id"])
    done.append(_attempt(lambda: remove_run_directory(document["run_directory"])))
    if document["auto_remove"]:
        done.append(_attempt(lambda: _remove_files(document["root"], document["directory"])))
    reach(fault.MONITOR_CLEARED)
    if document["uid"] == 0:
        # A normal user's groups are systemd's, which takes them away itself.
        _attempt(_leave_monitors)
    return False not in done


def run(document: "Document", reach: "Callable[[str], None]") -> bool:
    """Take down what stands for one run only: links, names and cgroup; tell whether nothing of it is left."""
    is_disconnected = _attempt(lambda: links.disconnect(document["network"]))
    reach(fault.MONITOR_DISCONNECTED)
    return _attempt(lambda: _remove_cgroup(document)) and is_disconnected


def remove_run_directory(path: str) -> None:
    """Remove SAMPAN_RUN/ID. Idempotent."""
    try:
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)
    except FileNotFoundError:
        pass


def forget(runtime: "Document", container_id: str) -> None:
    """Have a foreign runtime kill what is left of the container and forget it. Idempotent."""
    from sampan.errors import SampanError
    from sampan.runtime import foreign

    try:
        foreign.Runtime(runtime["path"], runtime["state_directory"]).run("delete", "--force", container_id)
    except SampanError:
        # runc 1.1 says "container does not exist" and fails where there is nothing to forget.
        if os.path.exists(f"{runtime['state_directory']}/{container_id}"):
            raise
    try:
        os.rmdir(runtime["state_directory"])
    except OSError:
        pass  # it has others, or it was never made


def _attempt(step: "Callable[[], None]") -> bool:
    try:
        step()
    except Exception:  # noqa: BLE001 - one that fails must not keep the others from their turn
        return False
    return True


def _leave_monitors() -> None:
    """Leave the monitors' cgroup; the last one takes it away."""
    cgroup.open_parent(Settings({}, 0)).leave_monitor()


def _remove_cgroup(document: "Document") -> None:
    told = document["state"]
    if told["runtime"] is not None:
        forget(told["runtime"], document["id"])
    if told["cgroup"] is None:
        return
    group = cgroup.parse(told["cgroup"])
    if document["is_pid_shared"]:
        group.kill()
    # Else what was in the container died with its first process, whose pid namespace it was in.
    group.remove()


def _remove_files(root: str, directory: str) -> None:
    for name in os.listdir(directory):
        if name not in TOMBSTONE:
            trash.discard(root, f"{directory}/{name}")
    trash.empty(root)
