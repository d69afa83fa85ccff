"""What the configuration says of registries: where their images may be had sooner, and which speak plain HTTP.

    [registry."docker.io"]
    mirrors = ["https://mirror.example.com", "http://127.0.0.1:5000", "harbor.example.com/hub"]

    [registry."registry.lan:5000"]
    insecure = true

A mirror is asked before the registry, in the order written. It may have a scheme, and a path that goes before each
repository's name.
"""

from sampan.errors import InvalidArgument, Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

KEYS = ("mirrors", "insecure")
_MAX_MIRRORS = 16
_MAX_MIRROR = 255
# What a host, a port and a path are made of (RFC 3986); no `@`: a password does not belong in here.
_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:/[]")


class Registry:
    """What holds for one registry."""

    __slots__ = ("insecure", "mirrors")

    def __init__(self, mirrors: tuple[str, ...] = (), *, insecure: bool = False) -> None:
        """Keep what was checked: `[SCHEME://]HOST[:PORT][/PATH]` for each mirror."""
        self.mirrors = mirrors
        self.insecure = insecure


def parse(found: "Mapping[str, object]", path: str) -> dict[str, Registry]:
    """Read the tables below `registry` of the configuration file at `path`; raises InvalidArgument."""
    return {name: _registry(name, table, path) for name, table in found.items()}


def _registry(name: str, table: object, path: str) -> Registry:
    if not isinstance(table, dict):
        hint = '`[registry."docker.io"]`, then `mirrors = ["https://mirror.example.com"]`'
        raise InvalidArgument(f"`registry.{name}` in the configuration is no table", hints=(hint,), at=Place(path))
    for key in table:
        if key not in KEYS:
            raise InvalidArgument(
                f'the configuration key `registry."{name}".{key}` is unknown', hints=(_near(key),), at=Place(path)
            )
    mirrors, insecure = table.get("mirrors", []), table.get("insecure", False)
    if not isinstance(insecure, bool):
        raise _invalid(name, "insecure", "write `true` or `false`", path)
    if not isinstance(mirrors, list) or len(mirrors) > _MAX_MIRRORS or not all(_is_mirror(one) for one in mirrors):
        hint = (
            'write a list of addresses: `mirrors = ["https://mirror.example.com"]`; a password goes to `sampan login`'
        )
        raise _invalid(name, "mirrors", hint, path)
    return Registry(tuple(mirrors), insecure=insecure)


def _is_mirror(found: object) -> bool:
    if not isinstance(found, str) or not 0 < len(found) <= _MAX_MIRROR or not _ALLOWED.issuperset(found):
        return False
    scheme, mark, rest = found.rpartition("://")
    host = rest.partition("/")[0]
    return bool(host) and ".." not in rest.split("/") and (not mark or scheme in {"http", "https"})


def _near(key: str) -> str:
    import difflib

    near = difflib.get_close_matches(key, KEYS, 1)
    return f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(KEYS)}"


def _invalid(name: str, key: str, hint: str, path: str) -> InvalidArgument:
    what = f'the configuration key `registry."{name}".{key}` has a value that it cannot have'
    return InvalidArgument(what, hints=(hint,), at=Place(path))
