"""Who a container's process is: docker's USER words looked up in the root's own passwd and group files. Hot path.

SECURITY: both files are the image's or the running container's. They are opened inside the root by the kernel, opened
so that a FIFO or a device cannot hold us up, and read to a bound; the machine's own user database (pwd, NSS) is never
asked.
"""

import os
import stat

from sampan.errors import InvalidArgument
from sampan.runtime import target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.oci.runtime import IdMapping

FILE_BYTES = 1024 * 1024
ID_MAX = 2**32 - 2


class User:
    """Ids as the container sees them; `gids` are the supplementary groups."""

    __slots__ = ("gid", "gids", "home", "uid")

    def __init__(self, uid: int, gid: int, gids: tuple[int, ...] = (), home: str = "/") -> None:
        self.uid = uid
        self.gid = gid
        self.gids = gids
        self.home = home


def resolve(root_fd: int, word: str, group_words: tuple[str, ...] = ()) -> User:
    """Return whom `word` (`""`, `user`, `uid`, `user:group`, `uid:gid`) names in the root `root_fd`.

    `group_words` are `--group-add`'s. Raises InvalidArgument for a name that is not there. The rules are docker's
    (moby/sys user.GetExecUser): a number needs no entry; supplementary groups come from the group file where no group
    was said.
    """
    user_word, colon, group_word = word.partition(":")
    user_word = user_word or "0"
    if colon and not group_word:
        raise InvalidArgument(f"`{word}` has no group after its colon")
    name, uid, gid, home = _find_user(root_fd, user_word)
    groups = list(_entries(root_fd, "etc/group", 3))
    gids: tuple[int, ...] = ()
    if group_word:
        gid = _find_group(groups, group_word)
    elif name:
        gids = tuple(int(fields[2]) for fields in groups if len(fields) > 3 and name in fields[3].split(","))
    gids += tuple(_find_group(groups, group) for group in group_words)
    # SECURITY: the primary group too, else a set-gid program could drop it and pass a mode that denies it
    # (CVE-2022-36109); docker does the same, and names it twice where the group file has the user in it.
    return User(uid, gid, (gid, *dict.fromkeys(gids)), home)


def within(who: User, mappings: "tuple[IdMapping, ...]") -> User:
    """Return `who` as a map of a single id can have it: without supplementary groups."""
    return User(who.uid, who.gid, (), who.home) if sum(mapping.size for mapping in mappings) == 1 else who


def _find_user(root_fd: int, word: str) -> tuple[str, int, int, str]:
    """Return name, uid, gid and home of the first entry that `word` names."""
    number = _number(word)
    for fields in _entries(root_fd, "etc/passwd", 6):
        if fields[0] == word or (number is not None and int(fields[2]) == number):
            gid = _number(fields[3])
            return fields[0], int(fields[2]), gid if gid is not None else 0, fields[5] or "/"
    if number is None:
        raise InvalidArgument(
            f"the user `{word}` is not in the image's `/etc/passwd`",
            hints=("name one that is, or a number: `--user 1000`",),
        )
    return "", number, 0, "/root" if number == 0 else "/"


def _find_group(groups: list[list[str]], word: str) -> int:
    for fields in groups:
        if fields[0] == word:
            return int(fields[2])
    number = _number(word)
    if number is None:
        raise InvalidArgument(
            f"the group `{word}` is not in the image's `/etc/group`", hints=("name one that is, or a number",)
        )
    return number


def _number(word: str) -> int | None:
    if word.isascii() and word.isdigit() and int(word) <= ID_MAX:
        return int(word)
    return None


def _entries(root_fd: int, path: str, least: int) -> "Iterator[list[str]]":
    """Yield the lines of a passwd(5) or group(5) file that have `least` fields and a number in the third."""
    for line in _read(root_fd, path).decode("utf-8", "surrogateescape").split("\n"):
        fields = line.strip().split(":")
        if len(fields) >= least and fields[0] and _number(fields[2]) is not None:
            yield fields


def _read(root_fd: int, path: str) -> bytes:
    """Return the start of a regular file in the root; nothing where it is anything else or not there."""
    try:
        # O_NONBLOCK: opening a FIFO for reading does not wait for a writer then.
        fd = target.find(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, FILE_BYTES) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(fd)
