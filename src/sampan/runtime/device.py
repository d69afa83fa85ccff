"""/dev: a tmpfs with the device nodes and links that runtime-spec names.

Theory: whoever may call mknod(2) (the machine's root) makes /dev before the container's user namespace is entered, with
nodes that belong to the container's root: no bind for each node, and nodes that are 0660 on the machine work. A normal
user may not; then the child makes an empty tmpfs and binds the machine's nodes over empty files.

A node outside /dev is made in /dev as well, under a name of its own; the child binds it to its place and takes the name
away. So it too has the owner and mode that were wanted, which a bind of the machine's node would not.
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
        for number, device in enumerate(all_of(spec)):
            _make_node(fd, _name_in_dev(device) or _hidden(number), device, spec)
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


def _hidden(number: int) -> str:
    """Return what the `number`th device is called in /dev until it is bound elsewhere."""
    return f".sampan-{number}"


def _make_node(dev_fd: int, name: str, device: Device, spec: "Spec") -> None:
    """Make `device` as `name` below the tmpfs."""
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
    """Bind the devices that were asked for at a path outside /dev: the nodes of `open_dev`, else the machine's."""
    for number, device in enumerate(all_of(spec)):
        if _name_in_dev(device) is not None:
            continue
        try:
            # SECURITY: no link leads there, for /dev was made by us a moment ago; nothing of the image has run.
            node = target.find(root_fd, f"/dev/{_hidden(number)}", resolve=syscalls.RESOLVE_NO_SYMLINKS)
        except FileNotFoundError:
            bind(root_fd, device)
            continue
        fd = mount.clone("", mount.Options(()), dirfd=node)
        os.close(node)
        _attach(root_fd, device, fd)
        dev_fd = target.find(root_fd, "/dev", os.O_DIRECTORY)
        os.unlink(_hidden(number), dir_fd=dev_fd)
        os.close(dev_fd)


def bind(root_fd: int, device: Device) -> None:
    """Bind the machine's node of `device` into the root."""
    source = f"/dev/{'block' if device.kind == 'b' else 'char'}/{device.major}:{device.minor}"
    path = device.path if _is_node(device.path, device) else source
    if not _is_node(path, device):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), device.path)
    _attach(root_fd, device, mount.clone(path, mount.Options(())))


def _attach(root_fd: int, device: Device, fd: int) -> None:
    """Attach the detached mount `fd` where `device` is wanted, and close it."""
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
