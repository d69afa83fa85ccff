"""What a container has of the machine's devices: nodes in its /dev, rules of access, limits of disks.

Theory: paths are looked up when the container is started, as docker does, so that a device may come and go; what is
found crosses to the monitor as numbers. A normal user may make no nodes and no rules: his devices are bound, as the
files that they are, and what he may do with one its owner and mode say. `--privileged` is given all there are.
"""

import os
import stat

from sampan.errors import NotFound, Unsupported
from sampan.oci.runtime import Device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.document import Document
    from sampan.engine.run_options import RunOptions
    from sampan.settings.configuration import Settings

_ALL = "rwm"
# Of the machine's /dev these are the container's own, or nobody's (moby: devices.HostDevices).
_OWN = ("pts", "shm", "fd", "mqueue", "console", "ptmx", "tty", ".lxc", ".lxd-mounts", ".udev")
_MOST = 8192


def find(settings: "Settings", options: "RunOptions", *, has_userns: bool) -> "Document":
    """Return `nodes` (Device documents), `binds` ([source, destination]), `rules` and `io` (as oci.runtime has them).

    `rules` None: nothing needs to be ruled. Raises NotFound, Unsupported.
    """
    found = [item for request in options.devices for item in _expanded(*request)]
    if options.privileged and settings.uid == 0:
        found = [*_everything(), *found]
    document: Document = {"nodes": [], "binds": [], "rules": None, "io": list(_limits(options))}
    if settings.uid != 0:
        _check_rules(options)
        document["binds"] = [[source, inside] for source, inside, _, _ in found]
        return document
    document["nodes"] = [_node(inside, status).document() for _, inside, status, _ in found]
    if options.privileged:
        # All may be used, and one more rule for each would be thousands.
        document["rules"] = [["a", None, None, _ALL]]
    elif not has_userns or _is_limited(options):
        rules = [[_kind(s), os.major(s.st_rdev), os.minor(s.st_rdev), access] for _, _, s, access in found]
        document["rules"] = [*rules, *(rule for text in options.device_cgroup_rules for rule in _rules(text))]
    return document


def _is_limited(options: "RunOptions") -> bool:
    """Tell whether a device may be used in some ways only, which a user namespace does not see to by itself."""
    return any("r" not in access or "w" not in access for _, _, access in options.devices)


def _check_rules(options: "RunOptions") -> None:
    if _is_limited(options) or options.device_cgroup_rules:
        raise Unsupported(
            "a normal user cannot rule the access to devices",
            hints=("give the whole device, `--device PATH`: its owner and mode on this machine say who may use it",),
        )


def _expanded(source: str, inside: str, access: str) -> "Iterator[tuple[str, str, os.stat_result, str]]":
    """Yield each device of a request: the one at `source`, or all below it, with its place, status and access."""
    try:
        path = os.path.realpath(source, strict=True)
        status = os.stat(path)
    except OSError as error:
        raise NotFound(f"the device `{source}` does not exist", hints=("see what there is in `/dev`",)) from error
    if _is_device(status):
        yield path, inside, status, access
        return
    if not stat.S_ISDIR(status.st_mode):
        raise Unsupported(
            f"`{source}` is neither a device nor a directory of them", hints=(f"bind it: `-v {source}:{inside}`",)
        )
    below = list(_below(path))
    if not below:
        raise NotFound(f"there are no devices in `{source}`")
    for place, found in below:
        yield place, inside + place[len(path) :], found, access


def _everything() -> "Iterator[tuple[str, str, os.stat_result, str]]":
    return ((path, path, status, _ALL) for path, status in _below("/dev", _OWN))


def _below(directory: str, but: tuple[str, ...] = ()) -> "Iterator[tuple[str, os.stat_result]]":
    """Yield the devices below a directory, without following links, by name."""
    for count, (path, status) in enumerate(_walk(directory, but)):
        if count == _MOST:
            raise Unsupported(f"there are more than {_MOST} devices in `{directory}`")
        yield path, status


def _walk(directory: str, but: tuple[str, ...]) -> "Iterator[tuple[str, os.stat_result]]":
    for name in sorted(os.listdir(directory)):
        path = f"{directory}/{name}"
        try:
            status = os.lstat(path)
            if name in but:
                continue
            if stat.S_ISDIR(status.st_mode):
                yield from _walk(path, ())
            elif _is_device(status):
                yield path, status
        except FileNotFoundError:
            continue  # it went while we looked


def _is_device(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)


def _kind(status: os.stat_result) -> str:
    return "b" if stat.S_ISBLK(status.st_mode) else "c"


def _node(inside: str, status: os.stat_result) -> Device:
    numbers = os.major(status.st_rdev), os.minor(status.st_rdev)
    mode = stat.S_IMODE(status.st_mode) & 0o777
    return Device(inside, _kind(status), *numbers, mode=mode, uid=status.st_uid, gid=status.st_gid)


def _rules(text: str) -> list[list[object]]:
    """Return what a `--device-cgroup-rule` allows; SECURITY: the kernel's own `a` would allow all, whatever follows."""
    kind, numbers, access = text.split(" ")
    major, minor = (None if word == "*" else int(word) for word in numbers.split(":"))
    if kind == "a" and (major, minor, set(access)) == (None, None, set(_ALL)):
        return [["a", None, None, _ALL]]
    return [[name, major, minor, access] for name in (("b", "c") if kind == "a" else (kind,))]


def _limits(options: "RunOptions") -> "Iterator[list[object]]":
    """Yield (kind, major, minor, value) of each limit of a disk."""
    for kind, limits in (
        ("weight", options.blkio_weight_device),
        ("read_bps", options.device_read_bps),
        ("write_bps", options.device_write_bps),
        ("read_iops", options.device_read_iops),
        ("write_iops", options.device_write_iops),
    ):
        for path, value in limits:
            try:
                number = os.stat(path).st_rdev
            except OSError as error:
                raise NotFound(f"the disk `{path}` does not exist", hints=("`lsblk` shows what there is",)) from error
            yield [kind, os.major(number), os.minor(number), value]
