"""/dev: a tmpfs with the device nodes and links that runtime-spec names.

Theory: whoever may call mknod(2) (the machine's root) makes /dev before the container's user namespace is entered, with
nodes that belong to the container's root: no bind for each node, and nodes that are 0660 on the machine work. A normal
user may not; then the child makes an empty tmpfs and binds the machine's nodes over empty files.
"""

import errno
import os

from sampan.kernel import mount, syscalls
from sampan.oci.runtime import Device
from sampan.runtime import idmap, target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.runtime import Spec

# config-linux.md#default-devices
DEFAULTS = (
    Device("/dev/null", "c", 1, 3),
    Device("/dev/zero", "c", 1, 5),
    Device("/dev/full", "c", 1, 7),
    Device("/dev/random", "c", 1, 8),
    Device("/dev/urandom", "c", 1, 9),
    Device("/dev/tty", "c", 5, 0),
)
# config-linux.md#dev-symbolic-links and #default-devices
LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
_DIRECTORIES = ("pts", "shm", "mqueue")
_S_IFCHR, _S_IFBLK = 0o020000, 0o060000


def all_of(spec: "Spec") -> "tuple[Device, ...]":
    """Return the default devices and those that were asked for; the latter win."""
    asked = {device.path for device in spec.devices}
    return (*(device for device in DEFAULTS if device.path not in asked), *spec.devices)


def open_dev(spec: "Spec", options: "tuple[str, ...]") -> int | None:
    """Return a detached tmpfs that is the container's whole /dev; None where mknod(2) is not permitted."""
    words = mount.Options(options)
    uid, gid = idmap.host_id(spec.uid_mappings, 0), idmap.host_id(spec.gid_mappings, 0)
    data = (*words.data, f"uid={uid or 0}", f"gid={gid or 0}")
    fd = mount.filesystem("tmpfs", data, words.attributes_set & ~syscalls.MOUNT_ATTR_NODEV)
    try:
        for device in all_of(spec):
            _make_node(fd, device, spec)
    except PermissionError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    _make_rest(fd)
    for name in _DIRECTORIES:
        os.mkdir(name, 0o755, dir_fd=fd)
        os.chown(name, uid or 0, gid or 0, dir_fd=fd)
    for name, _ in LINKS:
        os.chown(name, uid or 0, gid or 0, dir_fd=fd, follow_symlinks=False)
    return fd


def _make_node(dev_fd: int, device: Device, spec: "Spec") -> None:
    """Make `device` below the tmpfs; one outside /dev is left to `bind`."""
    name = _name_in_dev(device)
    if name is None:
        return
    for end in (at for at, letter in enumerate(name) if letter == "/"):
        try:
            os.mkdir(name[:end], 0o755, dir_fd=dev_fd)
        except FileExistsError:
            continue
    kind = _S_IFBLK if device.kind == "b" else _S_IFCHR
    os.mknod(name, kind | device.mode, os.makedev(device.major, device.minor), dir_fd=dev_fd)
    uid, gid = idmap.host_id(spec.uid_mappings, device.uid), idmap.host_id(spec.gid_mappings, device.gid)
    os.chown(name, uid or 0, gid or 0, dir_fd=dev_fd)
    os.chmod(name, device.mode, dir_fd=dev_fd)  # after mknod, which the umask cuts


def _name_in_dev(device: Device) -> str | None:
    path = os.path.normpath(device.path)
    return path[5:] if path.startswith("/dev/") else None


def make_by_bind(root_fd: int, spec: "Spec") -> None:
    """Fill the attached /dev of the child from the machine's own /dev, and make the links."""
    for device in all_of(spec):
        bind(root_fd, device)
    dev_fd = target.find(root_fd, "/dev", os.O_DIRECTORY)
    try:
        _make_rest(dev_fd)
    finally:
        os.close(dev_fd)


def bind_outside_dev(root_fd: int, spec: "Spec") -> None:
    """Bind the devices that were asked for at a path outside /dev."""
    for device in spec.devices:
        if _name_in_dev(device) is None:
            bind(root_fd, device)


def bind(root_fd: int, device: Device) -> None:
    """Bind the machine's node of `device` into the root."""
    source = f"/dev/{'block' if device.kind == 'b' else 'char'}/{device.major}:{device.minor}"
    path = device.path if _is_node(device.path, device) else source
    if not _is_node(path, device):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), device.path)
    fd = mount.clone(path, mount.Options(()))
    try:
        place = target.find_or_make(root_fd, device.path, is_directory=False)
        try:
            mount.attach(fd, place)
        finally:
            os.close(place)
    finally:
        os.close(fd)


def _is_node(path: str, device: Device) -> bool:
    """Tell whether the machine has that very device at `path`."""
    try:
        return os.stat(path).st_rdev == os.makedev(device.major, device.minor)
    except OSError:
        return False


def _make_rest(dev_fd: int) -> None:
    for name, destination in LINKS:
        try:
            os.symlink(destination, name, dir_fd=dev_fd)
        except FileExistsError:
            continue
