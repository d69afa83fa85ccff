"""USER words, looked up in a root that is hostile."""

import os
from collections.abc import Iterator

import pytest

from sampan.errors import InvalidArgument
from sampan.runtime import user

pytestmark = [pytest.mark.first]

PASSWD = "root:x:0:0:root:/root:/bin/sh\nbroken line\nweb:x:33:44::/srv:/bin/sh\n# x\nodd:x:notanumber:1::/:/\n"
GROUP = "root:x:0:\nweb:x:44:\ndocker:x:99:other,web\nmany:x:100:web\n"


@pytest.fixture
def root(tmp_path: object) -> Iterator[int]:
    """Yield a root with passwd and group."""
    os.mkdir(f"{tmp_path}/etc")
    for name, text in (("passwd", PASSWD), ("group", GROUP)):
        with open(f"{tmp_path}/etc/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    fd = os.open(str(tmp_path), os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("", (0, 0, (0,), "/root")),
        ("web", (33, 44, (44, 99, 100), "/srv")),
        ("33", (33, 44, (44, 99, 100), "/srv")),
        ("web:docker", (33, 99, (99,), "/srv")),
        ("1234", (1234, 0, (0,), "/")),
        ("1234:5678", (1234, 5678, (5678,), "/")),
        ("0:web", (0, 44, (44,), "/root")),
    ],
)
def test_users_are_docker_s(root: int, word: str, expected: tuple[int, int, tuple[int, ...], str]) -> None:
    """Names and numbers, with groups (the primary one first) and home, as docker resolves them."""
    who = user.resolve(root, word)
    assert (who.uid, who.gid, who.gids, who.home) == expected


@pytest.mark.parametrize("word", ["nobody-here", "web:nogroup", "web:", "odd", "-1", "99999999999"])
def test_who_is_not_there_is_an_error(root: int, word: str) -> None:
    """No name is guessed."""
    with pytest.raises(InvalidArgument):
        user.resolve(root, word)


@pytest.mark.parametrize("trap", ["fifo", "link out", "link loop", "directory", "device"])
def test_a_hostile_passwd_neither_hangs_nor_leads_out(tmp_path: object, root: int, trap: str) -> None:
    """A FIFO, a device, a loop or a link out of the root is as if nothing stood there."""
    path = f"{tmp_path}/etc/passwd"
    os.unlink(path)
    match trap:
        case "fifo":
            os.mkfifo(path)
        case "link out":
            os.symlink("../../../../../../../../etc/passwd", path)
        case "link loop":
            os.symlink("passwd", path)
        case "directory":
            os.mkdir(path)
        case _:
            os.symlink("/dev/zero", path)
    assert user.resolve(root, "5").home == "/"
    with pytest.raises(InvalidArgument):
        user.resolve(root, "daemon")
