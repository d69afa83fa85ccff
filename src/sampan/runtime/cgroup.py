"""Control groups: one group a container, one for the monitors, whatever this machine's cgroup version.

Theory: `open_parent` finds out how groups are made here and returns a `Parent`; `Parent.create` makes a container's
group with its limits already set, so no process of the container ever runs without them. A group is entered by the
child itself: on v2 it is born there (`Cgroup.fd` for CLONE_INTO_CGROUP), on v1 it writes `0` to `tasks`, which is 0.4
ms where moving another process through `cgroup.procs` waits 5-25 ms for an RCU grace period. `document` names a group
for the process that sweeps it after a crash.

    v1, hybrid   /sys/fs/cgroup/CONTROLLER/sampan/{monitors,ID}                 cgroup_v1
    v2           PARENT/{monitors,ID}, PARENT delegated by systemd or our own   cgroup_v2, delegation

A limit that was asked for and cannot be applied is Unsupported; nobody who asked for none is bothered.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from sampan.document import Document
    from sampan.oci.runtime import Resources
    from sampan.settings.configuration import Settings

    class Cgroup(Protocol):
        """One container's group. Every method but `enter` may be called by any process, and again."""

        fd: int | None

        def open(self) -> None:
            """Open what a child needs to enter; `create` has done so, `parse` has not."""

        def enter(self) -> None:
            """Join, called in the child between clone and execve: uses descriptors that `create` opened."""

        def add(self, pid: int) -> None:
            """Move process `pid` into the group."""

        def apply(self, resources: Resources) -> None:
            """Set the limits of `resources`, -1 for none; those that are None stay as they are. Raises Unsupported."""

        def oom_kills(self) -> int:
            """Return how many processes the kernel has killed here for want of memory."""

        def oom_file(self) -> str:
            """Return the path of the file whose line `oom_kill N` has that number, or "": for who imports no cgroup."""

        def memory_bytes(self) -> int:
            """Return the bytes charged to the group now."""

        def processes(self) -> list[int]:
            """Return the ids of the processes in the group, and in those that a container made below it."""

        def freeze(self) -> None:
            """Stop all processes of the group until `thaw`; raises Unsupported, or Conflict for one that does not."""

        def thaw(self) -> None:
            """Let the processes of the group go on."""

        def kill(self) -> None:
            """Send SIGKILL to every process of the group."""

        def remove(self) -> None:
            """Remove the group, waiting up to two seconds for its last processes to be gone."""

        def close(self) -> None:
            """Close the descriptors that `create` opened."""

        def document(self) -> Document:
            """Name the group for `parse`."""

    class Parent(Protocol):
        """Where groups are made on this machine."""

        controllers: tuple[str, ...]

        def create(self, container_id: str, resources: Resources, *, devices: bool, parent: str = "") -> Cgroup:
            """Make the group of a container with its limits set; raises Unsupported for one that cannot be.

            `devices` adds the device rules that a container without a user namespace needs. `parent` is a
            `--cgroup-parent`: the group, below the root, that this one is made in.
            """

        def enter_monitor(self) -> None:
            """Move the calling process out of its caller's group into the monitors' one."""

        def leave_monitor(self) -> None:
            """Called last by a monitor: leave the monitors' group, and take away what nobody uses any more."""


def open_parent(settings: "Settings") -> "Parent":
    """Return the parent of this machine and user; it may have no controllers."""
    from sampan.runtime import cgroup_v1

    hierarchies = cgroup_v1.hierarchies()
    if any(name in hierarchies for name in ("memory", "cpu", "pids")):
        return cgroup_v1.Parent(hierarchies, is_root=settings.uid == 0)
    from sampan.runtime import cgroup_v2

    return cgroup_v2.open_parent(settings)


def of_process(pid: int) -> "Document | None":
    """Name the group that process `pid` is in, for `parse`: who else made it did not tell; None where it is gone."""
    from sampan.runtime import cgroup_v1, cgroup_v2, cgroupfs

    found = cgroup_v1.hierarchies()
    lines = [line.split(":", 2) for line in cgroupfs.read(f"/proc/{pid}/cgroup").splitlines()]
    if any(name in found for name in ("memory", "cpu", "pids")):
        paths = {name: path for _, names, path in lines for name in names.split(",") if name in found}
        return (
            {"cgroup": 1, "directories": {name: found[name] + path for name, path in paths.items()}} if paths else None
        )
    path = next((path for number, _, path in lines if number == "0"), "")
    point = cgroup_v2.mount_point()
    return {"cgroup": 2, "directory": point + path} if path and point else None


def parse(document: "Document") -> "Cgroup":
    """Return the group that `document` names; it need not be there any more."""
    if document["cgroup"] == 1:
        from sampan.runtime import cgroup_v1

        return cgroup_v1.Cgroup(document["directories"], document.get("made"))
    from sampan.runtime import cgroup_v2

    return cgroup_v2.Cgroup(document["directory"], document.get("made"))
