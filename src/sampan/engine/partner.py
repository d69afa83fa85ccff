"""The containers whose namespaces another joins: the monitor's part. Hot path.

Theory. A start request names containers; their state files name processes. A process is believed to be the one that is
meant while its container's lock is held and its start time is what the file says; from then on its pidfd stands for it
(`runtime.joined`), so that no number which was given to another process leads there. With every run of a restart policy
this is done anew: the other one may have been started again, with other namespaces and other ids.
"""

import os
import time

from sampan.engine import liveness, state
from sampan.errors import Conflict, Unsupported
from sampan.kernel import syscalls
from sampan.oci.runtime import IdMapping, parse_mappings
from sampan.runtime import joined, namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document

# Between two runs of the other one's restart policy it is waited for so long.
_PATIENCE_SECONDS, _POLL_SECONDS = 5.0, 0.02


class Partners:
    """The others' namespaces: `joined` for `process.create`, `paths` for the spec, the shared user namespace's maps.

    `uid_mappings` and `gid_mappings` are a state file's; empty where no user namespace is shared.
    """

    __slots__ = ("gid_mappings", "joined", "paths", "uid_mappings")

    def __init__(self) -> None:
        self.joined = joined.Joined()
        self.paths: dict[str, str] = {}
        self.uid_mappings: list[Document] = []
        self.gid_mappings: list[Document] = []

    def mappings(self) -> "tuple[tuple[IdMapping, ...], tuple[IdMapping, ...]]":
        """Return the maps of the shared user namespace, as the spec has them."""
        return parse_mappings(self.uid_mappings), parse_mappings(self.gid_mappings)


def open_all(request: "Document", root: str, *, is_patient: bool) -> Partners:
    """Open all that the request joins; the caller closes `joined`. Raises Conflict, Unsupported.

    `is_patient` waits for one that is between two runs.
    """
    partners = Partners()
    try:
        _open_all(partners, request, root, is_patient=is_patient)
    except BaseException:
        partners.joined.close()
        raise
    return partners


def _open_all(partners: Partners, request: "Document", root: str, *, is_patient: bool) -> None:
    found: dict[str, tuple[state.State, int]] = {}
    flags: dict[str, int] = {}
    for kind, id in request["joined"]["containers"].items():
        if id not in found:
            found[id] = _find(f"{root}/containers/{id}", is_patient=is_patient)
            partners.joined.entered.append((found[id][1], 0))
        told, pidfd = found[id]
        flags[id] = flags.get(id, 0) | namespaces.KINDS[kind][1]
        partners.paths[kind] = f"/proc/{told.pid}/ns/{namespaces.KINDS[kind][0]}"
        if kind == "network":
            partners.joined.namespaces["net"] = joined.open_namespace(told.pid, pidfd, "net")
        if kind == "ipc":
            partners.joined.mounts[joined.SHARED_MEMORY] = joined.open_shared_memory(pidfd)
    owner = _owner(partners, found) if request["has_userns"] else None
    if owner is not None:
        flags[owner] |= syscalls.CLONE_NEWUSER
    elif request["has_userns"] and set(partners.paths) != {"network"}:
        raise Unsupported(
            "the container whose namespaces it joins has no user namespace, and this one has",
            hints=("run this one with `--userns=host` as well",),
        )
    # Whose user namespace is shared is entered first: it gives the right to the rest.
    order = sorted(found, key=lambda each: each != owner)
    partners.joined.entered = [(found[each][1], flags[each]) for each in order]


def _owner(partners: Partners, found: "dict[str, tuple[state.State, int]]") -> str | None:
    """Take the maps of the user namespace that is shared; return whose it is, None where the others have none."""
    if not any(told.uid_mappings for told, _ in found.values()):
        return None
    first = next(iter(found))
    told, _ = found[first]
    fds = [joined.open_namespace(each.pid, pidfd, "user") for each, pidfd in found.values()]
    try:
        if len({os.fstat(fd).st_ino for fd in fds}) > 1:
            raise Unsupported(
                "the containers whose namespaces it joins have different user namespaces",
                hints=("let one of them join the other, or run all with `--userns=host`",),
            )
        partners.joined.namespaces["user"] = os.dup(fds[0])
    finally:
        for fd in fds:
            os.close(fd)
    partners.paths = {"user": f"/proc/{told.pid}/ns/user"} | partners.paths
    partners.uid_mappings, partners.gid_mappings = told.uid_mappings, told.gid_mappings
    return first


def _find(directory: str, *, is_patient: bool) -> "tuple[state.State, int]":
    """Return the state of a running container and a pidfd of its first process."""
    deadline = time.monotonic() + (_PATIENCE_SECONDS if is_patient else 0)
    while True:
        is_alive = state.alive(directory)
        told = state.read(directory)
        if is_alive and told.status == state.RUNNING:
            pidfd = liveness.open_process(told)
            if pidfd >= 0:
                return told, pidfd
        if not is_alive or time.monotonic() > deadline:
            id = os.path.basename(directory)[:12]
            raise Conflict(
                f"the container {id}, whose namespaces it joins, is not running",
                hints=(f"start it with `sampan start {id}`",),
            )
        time.sleep(_POLL_SECONDS)
