"""The words of `-v`, `--mount` and `--tmpfs`, each as a `VolumeMount`. Pure but for paths; raises InvalidArgument."""

import os

from sampan.engine.run_options import VolumeMount
from sampan.engine.words import check_name
from sampan.errors import InvalidArgument, NotFound, Unsupported

_PROPAGATIONS = ("rprivate", "private", "rslave", "slave", "rshared", "shared")
_VOLUME_OPTIONS = ("ro", "rw", "z", "Z", *_PROPAGATIONS, "nocopy")
# What each type of `--mount` may say beside source, target and readonly; consistency is a word of docker's for macOS.
_MOUNT_TYPES = {
    "bind": ("bind-propagation", "bind-recursive", "bind-nonrecursive", "consistency"),
    "volume": ("volume-nocopy", "volume-subpath", "volume-label", "volume-driver", "volume-opt", "consistency"),
    "tmpfs": ("tmpfs-size", "tmpfs-mode", "consistency"),
}
_MOUNT_KEYS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_FLAGS = ("readonly", "volume-nocopy", "bind-nonrecursive")
_MANY = ("volume-label", "volume-opt")
_RECURSIONS = ("enabled", "disabled", "writable", "readonly")
_ELSEWHERE = {
    "image": "the files of an image cannot be mounted; copy them: `COPY --from=IMAGE` or `sampan cp`",
    "cluster": "there is no cluster",
    "npipe": "a named pipe is one of Windows",
}


def parse_volume(text: str) -> VolumeMount:
    """Parse a `-v` word: `/host:/in[:ro]`, `./below/here:/in`, `name:/in[:ro]`, `/in` (anonymous)."""
    parts = text.split(":")
    if len(parts) == 1:
        return VolumeMount("volume", "", _destination(parts[0], text))
    if len(parts) > 3 or not parts[0]:
        raise _no_volume(text)
    words = tuple(parts[2].split(",")) if len(parts) == 3 else ()
    for word in words:
        if word not in _VOLUME_OPTIONS:
            raise InvalidArgument(f"`{word}` in the volume `{text}` is unknown", hints=("`ro` makes it read-only",))
    source, read_only = parts[0], "ro" in words
    options = tuple(word for word in words if word not in {"ro", "rw", "z", "Z"})
    destination = _destination(parts[1], text)
    if source.startswith(("/", "./", "../", "~/")) or source in {".", "..", "~"}:
        path = os.path.abspath(os.path.expanduser(source) if source.startswith("~") else source)
        return VolumeMount("bind", path, destination, read_only=read_only, options=options)
    return VolumeMount("volume", check_name(source), destination, read_only=read_only, options=options)


def parse_tmpfs(text: str) -> VolumeMount:
    """Parse a `--tmpfs` word: `/run[:size=64m,mode=1777]`."""
    destination, _, words = text.partition(":")
    options = tuple(word for word in words.split(",") if word)
    return VolumeMount("tmpfs", "", _destination(destination, text), read_only="ro" in options, options=options)


def parse_mount(text: str) -> VolumeMount:
    """Parse a `--mount` word: `type=bind,source=/host,target=/in,readonly`, or docker's other keys for the same."""
    fields, many = _fields(text)
    kind = fields.pop("type", "volume")
    if kind not in _MOUNT_TYPES:
        if kind in _ELSEWHERE:
            raise Unsupported(f"the mount type `{kind}` is not there", hints=(_ELSEWHERE[kind],))
        raise InvalidArgument(f"the mount type `{kind}` is unknown", hints=(f"types: {', '.join(_MOUNT_TYPES)}",))
    source, target = fields.pop("source", ""), fields.pop("target", "")
    read_only = _is_on(fields.pop("readonly", "false"), text)
    for key in (*fields, *many):
        if key not in _MOUNT_TYPES[kind]:
            raise InvalidArgument(
                f"`{key}` in the mount `{text}` is unknown",
                hints=(f"`type={kind}` has {', '.join(_MOUNT_TYPES[kind])}",),
            )
    if kind == "bind":
        source = os.path.abspath(os.path.expanduser(source) if source.startswith("~") else source)
    if kind == "bind" and not os.path.exists(source):
        # docker: `--mount` never makes a missing source, `-v` does.
        raise NotFound(f"the bind source `{source}` does not exist", hints=(f"make it with `mkdir -p {source}`",))
    if kind == "volume" and source:
        check_name(source)
    if kind == "tmpfs" and source:
        raise InvalidArgument(f"a tmpfs has no source, as `{text}` says")
    check_driver(fields.get("volume-driver", ""))
    return VolumeMount(
        kind,
        source,
        _destination(target, text),
        read_only=read_only,
        options=_mount_options(fields, kind, text),
        recursion=_recursion(fields, text, read_only=read_only),
        subpath=check_subpath(fields.get("volume-subpath", "")),
        driver_options=tuple(many.get("volume-opt", {}).items()),
        labels=tuple(many.get("volume-label", {}).items()),
        is_long=True,
    )


def check_driver(name: str) -> str:
    """Return the name of a volume driver if it is there."""
    if name not in {"", "local"}:
        raise Unsupported(f"the volume driver `{name}` is not there", hints=("there is `local`",))
    return name


def check_subpath(path: str) -> str:
    """Return a path within a volume, without what leads nowhere."""
    if path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise InvalidArgument(f"`{path}` is no path within a volume", hints=("write it like `logs/app`",))
    return os.path.normpath(path) if path else ""


def parse_volumes_from(text: str) -> tuple[str, bool]:
    """Parse a `--volumes-from` word, `NAME[:ro|rw]`: the container, and whether all is read-only."""
    name, _, mode = text.partition(":")
    words = set(mode.split(",")) - {""}
    if not name or words - {"ro", "rw", "z", "Z"} or {"ro", "rw"} <= words:
        raise InvalidArgument(f"`{text}` is no container and access", hints=("write it like `web` or `web:ro`",))
    return name, "ro" in words


def _fields(text: str) -> "tuple[dict[str, str], dict[str, dict[str, str]]]":
    """Return the keys of a `--mount`, and those that hold pairs; a field in quotes may hold commas, as in CSV."""
    parts = text.split(",")
    if '"' in text:
        import csv  # rarely needed

        parts = next(csv.reader([text], strict=True), [])
    fields: dict[str, str] = {}
    many: dict[str, dict[str, str]] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        key = _MOUNT_KEYS.get(key.strip().lower(), key.strip().lower())
        if not equals and key not in _FLAGS:
            raise InvalidArgument(
                f"`{part}` in the mount `{text}` has no value", hints=(f"write it like `{key}=VALUE`",)
            )
        if key in _MANY:
            name, _, inner = value.partition("=")
            many.setdefault(key, {})[name] = inner
        else:
            fields[key] = value
    return fields, many


def _is_on(word: str, text: str) -> bool:
    if word in {"", "1", "t", "T", "true", "TRUE", "True"}:
        return True
    if word in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    raise InvalidArgument(f"`{word}` in the mount `{text}` is neither true nor false")


def _recursion(fields: "dict[str, str]", text: str, *, read_only: bool) -> str:
    word = fields.get("bind-recursive", "enabled")
    if _is_on(fields.get("bind-nonrecursive", "false"), text):
        word = "disabled"
    return check_recursion(word, read_only=read_only, propagation=fields.get("bind-propagation", ""))


def check_recursion(word: str, *, read_only: bool, propagation: str) -> str:
    """Return a word of `bind-recursive`, `""` for the default: all below a bind is in it, and read-only with it."""
    # docker's older words for the first two.
    word = {"true": "enabled", "1": "enabled", "false": "disabled", "0": "disabled"}.get(word, word)
    if word not in _RECURSIONS:
        raise InvalidArgument(f"`bind-recursive` cannot be `{word}`", hints=(f"there are {', '.join(_RECURSIONS)}",))
    if word in {"writable", "readonly"} and not read_only:
        raise InvalidArgument(f"`bind-recursive={word}` says nothing without `readonly`")
    if word == "readonly" and propagation not in {"", "rprivate"}:
        raise InvalidArgument("`bind-recursive=readonly` goes with `bind-propagation=rprivate` only")
    return "" if word == "enabled" else word


def _mount_options(fields: "dict[str, str]", kind: str, text: str) -> tuple[str, ...]:
    """Return the mount words that the keys of a `--mount` mean."""
    if kind == "tmpfs":
        from sampan.units import parse_size  # only with a --mount of that kind

        size, mode = fields.get("tmpfs-size"), fields.get("tmpfs-mode")
        if mode is not None and (mode.strip("01234567") or not mode or int(mode, 8) > 0o7777):
            raise InvalidArgument(f"`tmpfs-mode` cannot be `{mode}`", hints=("write it in octal digits, like `1777`",))
        sizes = () if size is None else (f"size={parse_size(size)}",)
        return sizes if mode is None else (*sizes, f"mode={mode}")
    if kind == "volume":
        return ("nocopy",) if _is_on(fields.get("volume-nocopy", "false"), text) else ()
    word = fields.get("bind-propagation", "")
    if word and word not in _PROPAGATIONS:
        raise InvalidArgument(f"`{word}` is no propagation", hints=(f"there are {', '.join(_PROPAGATIONS)}",))
    return (word,) if word else ()


def _destination(path: str, text: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise _no_volume(text)
    clean = os.path.normpath(path)
    if clean in {"/", "//"}:
        raise InvalidArgument(f"the volume `{text}` would cover the whole root `/`")
    return clean


def _no_volume(text: str) -> InvalidArgument:
    return InvalidArgument(
        f"`{text}` is no volume",
        hints=("write it like `/host/path:/in/it`, `name:/in/it` or `/in/it`, with `:ro` to protect it",),
    )
