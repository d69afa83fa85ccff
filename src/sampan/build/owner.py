"""Names of users and groups, looked up in the files of a stage: `--chown` and WORKDIR under a USER.

SECURITY: passwd(5) and group(5) are the image's. They are read to a bound, links in it are followed within the root,
and the machine's own users are never asked.
"""

from sampan.build import tree
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.build.tree import Tree
    from sampan.errors import Place

_FILE_BYTES = 1 << 20
_ID_MAX = 2**32 - 2


def find(source: "Tree", word: str, at: "Place") -> tuple[int, int]:
    """Return the ids that `user`, `user:group`, `uid` or `uid:gid` mean; raises InvalidArgument.

    A number alone is the group too; a name alone brings its group from the passwd file (the Dockerfile reference).
    """
    user, colon, group = word.partition(":")
    uid = _number(user)
    gid = uid
    if uid is None:
        fields = _entry(source, "etc/passwd", user)
        if fields is None or len(fields) < 4:
            raise _absent("user", user, "passwd", at)
        uid, gid = _number(fields[2]) or 0, _number(fields[3]) or 0
    if colon:
        gid = _number(group)
        if gid is None:
            fields = _entry(source, "etc/group", group)
            if fields is None:
                raise _absent("group", group, "group", at)
            gid = _number(fields[2])
    return uid, gid or 0


def _entry(source: "Tree", path: str, name: str) -> list[str] | None:
    real = tree.resolve(source, path)
    node = source.find(real)
    if node is None or not node.is_file:
        return None
    with source.open(real) as file:
        text = file.read(_FILE_BYTES).decode("utf-8", "surrogateescape")
    for line in text.split("\n"):
        fields = line.strip().split(":")
        if len(fields) > 2 and fields[0] == name and _number(fields[2]) is not None:
            return fields
    return None


def _number(word: str) -> int | None:
    if word.isascii() and word.isdigit() and len(word) <= 10 and int(word) <= _ID_MAX:
        return int(word)
    return None


def _absent(what: str, name: str, file: str, at: "Place") -> InvalidArgument:
    adding = f"RUN {what}add {name}" if name else "USER 1000"
    hints = (f"add it before this line, as in `{adding}`", "or write numbers, as in `1000:1000`")
    return InvalidArgument(f"the {what} `{name[:60]}` is not in the image's `/etc/{file}`", hints=hints, at=at)
