"""`RUN --mount=…`: what a step sees beside its file system. Pure."""

from sampan.build.dockerfile.instruction import suggest
from sampan.errors import InvalidArgument, Unsupported
from sampan.units import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.document import Document
    from sampan.errors import Place

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_OTHER_NAMES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_TRUE = {"", "true", "1", "t"}
# What each type takes beside `type` and `target`.
_KEYS = {
    "bind": ("source", "from", "readonly", "readwrite"),
    "cache": ("id", "source", "from", "readonly", "readwrite", "sharing", "mode", "uid", "gid"),
    "tmpfs": ("size", "readonly", "readwrite"),
    "secret": ("id", "source", "required", "env", "mode", "uid", "gid"),
    "ssh": ("id", "required", "mode", "uid", "gid"),
}


class Mount:
    """One mount of a RUN; `target` is absolute, `""` where a secret is an environment variable only."""

    __slots__ = ("env", "gid", "id", "is_read_only", "is_required", "mode", "origin", "sharing", "size_bytes", "source",
                 "target", "type", "uid")  # fmt: skip

    def __init__(self, type: str) -> None:
        self.type = type
        self.id = ""
        self.target = ""
        self.source = ""
        self.origin = ""  # of `from=`
        self.env = ""
        self.sharing = "shared"
        self.is_read_only = type == "bind"
        self.is_required = False
        self.size_bytes = 0
        self.mode = 0o400 if type == "secret" else 0o755
        self.uid = 0
        self.gid = 0

    def document(self) -> "Document":
        """Return what a step's key depends on; a secret's value is never a part of it."""
        return {name: getattr(self, name) for name in self.__slots__}


def parse(text: str, expand: "Callable[[str], str]", workdir: str, at: "Place") -> Mount:
    """Read one `--mount`; raises InvalidArgument, Unsupported for ssh."""
    fields = _fields(text, expand, at)
    kind = fields.pop("type", "bind").lower()
    if kind not in TYPES:
        near = suggest(kind, TYPES)
        hint = f"did you mean `type={near[0]}`?" if near else f"types: {', '.join(TYPES)}"
        raise InvalidArgument(f"there is no mount of the type `{kind[:40]}`", hints=(hint,), at=at)
    if kind == "ssh":
        raise Unsupported(
            "`--mount=type=ssh` is not there yet", hints=("give the key by `--mount=type=secret`",), at=at
        )
    for key in fields:
        if key not in {*_KEYS[kind], "target"}:
            near = suggest(key, [*_KEYS[kind], "target"])
            hint = f"did you mean `{near[0]}`?" if near else f"it takes target, {', '.join(_KEYS[kind])}"
            raise InvalidArgument(f"a mount of the type `{kind}` has no key `{key[:40]}`", hints=(hint,), at=at)
    mount = Mount(kind)
    _fill(mount, fields, at)
    _place(mount, workdir, at)
    return mount


def _fields(text: str, expand: "Callable[[str], str]", at: "Place") -> dict[str, str]:
    fields: dict[str, str] = {}
    for piece in _split(text):
        key, equals, value = piece.partition("=")
        key = key.strip().lower()
        key = _OTHER_NAMES.get(key, key)
        if not equals and key not in {"readonly", "readwrite", "required"}:
            raise InvalidArgument(f"`{piece[:60]}` in `--mount` is no KEY=VALUE", at=at)
        fields[key] = expand(value)
    return fields


def _split(text: str) -> list[str]:
    """Part at commas that are not in double quotes (RFC 4180)."""
    pieces, quoted = [""], False
    for character in text:
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            pieces.append("")
        else:
            pieces[-1] += character
    return [piece for piece in pieces if piece.strip()]


def _fill(mount: Mount, fields: dict[str, str], at: "Place") -> None:
    mount.source = fields.get("source", "")
    mount.origin = fields.get("from", "")
    mount.target = fields.get("target", "")
    mount.env = fields.get("env", "")
    mount.id = fields.get("id", "")
    if "readonly" in fields:
        mount.is_read_only = fields["readonly"].lower() in _TRUE
    if "readwrite" in fields:
        mount.is_read_only = fields["readwrite"].lower() not in _TRUE
    if "required" in fields:
        mount.is_required = fields["required"].lower() in _TRUE
    if "size" in fields:
        mount.size_bytes = parse_size(fields["size"])
    mount.sharing = fields.get("sharing", "shared").lower()
    if mount.sharing not in {"shared", "private", "locked"}:
        hints = ("it can be `shared`, `private` or `locked`",)
        raise InvalidArgument(f"`sharing={mount.sharing[:40]}` is unknown", hints=hints, at=at)
    for key, base in (("mode", 8), ("uid", 10), ("gid", 10)):
        if key in fields:
            setattr(mount, key, _number(key, fields[key], base, at))


def _place(mount: Mount, workdir: str, at: "Place") -> None:
    """Fill in what is left out: a secret's place and id, a cache's id; make the target absolute."""
    if mount.type == "secret":
        mount.id = mount.id or mount.source or mount.target.rpartition("/")[2] or mount.env
        if not mount.id:
            raise InvalidArgument("a secret's mount has neither id nor target", hints=("give it `id=NAME`",), at=at)
        mount.source = ""
        if not mount.target and not mount.env:
            mount.target = f"/run/secrets/{mount.id.rpartition('/')[2]}"
    elif not mount.target:
        raise InvalidArgument("a mount has no target", hints=("give it `target=/PATH`",), at=at)
    if mount.target and not mount.target.startswith("/"):
        mount.target = f"{workdir.rstrip('/')}/{mount.target}"
    if mount.type == "cache":
        mount.id = mount.id or mount.target


def _number(key: str, text: str, base: int, at: "Place") -> int:
    try:
        number = int(text, base)
    except ValueError as error:
        raise InvalidArgument(f"`{key}={text[:40]}` is no number", at=at) from error
    if not 0 <= number < 1 << 32:
        raise InvalidArgument(f"`{key}={text[:40]}` is out of range", at=at)
    return number
