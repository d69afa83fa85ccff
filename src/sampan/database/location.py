"""Where the database may live: a directory of our own, closed to others, on a file system of this machine."""

import os
import stat

from sampan.errors import Unsupported

MOVE_HINT = "set SAMPAN_ROOT to a directory on a local disk, as in `SAMPAN_ROOT=/var/tmp/sampan sampan ps`"

# File systems whose locks or shared memory other machines do not see (proc_pid_mountinfo(5), field 9).
_NETWORK = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "ceph",
    "afs",
    "lustre",
    "gpfs",
    "beegfs",
    "glusterfs",
    "sshfs",
)
# Octal escapes of a mount point, proc_pid_mountinfo(5).
_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


def prepare(root: str) -> None:
    """Make `root` (mode 0700, parents as umask says) where it is missing; close it to others where it is open.

    Raises Unsupported for a network file system, OSError.
    """
    try:
        status = os.stat(root)
    except FileNotFoundError:
        status = _made(root)
    # SECURITY: the layers in it hold set-uid files of other people's making.
    if stat.S_IMODE(status.st_mode) & 0o077:
        os.chmod(root, 0o700)
    # A file system on a block device is local; all others have major number 0 and cost a look at mountinfo.
    if os.major(status.st_dev) == 0:
        _refuse_network(root, file_system(os.path.realpath(root)))


def file_system(path: str) -> str:
    """Return the type (`ext4`, `nfs4`) of the file system that the absolute `path`, without links, lies on."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return _file_system_in(file.read(), path)


def _made(root: str) -> os.stat_result:
    os.makedirs(os.path.dirname(root), exist_ok=True)
    try:
        os.mkdir(root, 0o700)
    except FileExistsError:
        pass  # another command was quicker
    return os.stat(root)


def _refuse_network(root: str, kind: str) -> None:
    if kind.removeprefix("fuse.") in _NETWORK:
        raise Unsupported(
            f"`{root}` lies on a network file system (`{kind}`), where a database cannot live", hints=(MOVE_HINT,)
        )


def _file_system_in(mountinfo: str, path: str) -> str:
    found, kind = "", ""
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        point = fields.split(" ")[4]
        for escape, character in _ESCAPES:
            point = point.replace(escape, character)
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # `>=`: of two mounts on one point the later hides the earlier.
        if inside and len(point) >= len(found):
            found, kind = point, rest.split(" ")[0]
    return kind
