"""The words of `-v`, `--mount` and `--tmpfs`, each as a `VolumeMount`. Pure but for paths; raises InvalidArgument."""

import os

from sampan.engine.run_options import VolumeMount
from sampan.engine.words import check_name
from sampan.errors import InvalidArgument, NotFound

_PROPAGATIONS = ("rprivate", "private", "rslave", "slave", "rshared", "shared")
_VOLUME_OPTIONS = ("ro", "rw", "z", "Z", *_PROPAGATIONS, "nocopy")
# What each type of `--mount` may say beside source, target and readonly; consistency is a word of docker's for macOS.
_MOUNT_TYPES = {
    "bind": ("bind-propagation", "consistency"),
    "volume": ("volume-nocopy", "consistency"),
    "tmpfs": ("tmpfs-size", "tmpfs-mode"),
}
_MOUNT_KEYS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}


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
    fields = {_MOUNT_KEYS.get(key, key): value for key, _, value in (part.partition("=") for part in text.split(","))}
    kind = fields.pop("type", "volume")
    if kind not in _MOUNT_TYPES:
        raise InvalidArgument(f"the mount type `{kind}` is unknown", hints=(f"types: {', '.join(_MOUNT_TYPES)}",))
    source, target = fields.pop("source", ""), fields.pop("target", "")
    read_only = fields.pop("readonly", "false") in {"", "true", "1"}
    for key in fields:
        if key not in _MOUNT_TYPES[kind]:
            raise InvalidArgument(
                f"`{key}` in the mount `{text}` is unknown",
                hints=(f"`type={kind}` has {', '.join(_MOUNT_TYPES[kind])}",),
            )
    if kind == "bind":
        source = os.path.abspath(source)
    if kind == "bind" and not os.path.exists(source):
        # docker: `--mount` never makes a missing source, `-v` does.
        raise NotFound(f"the bind source `{source}` does not exist", hints=(f"make it with `mkdir -p {source}`",))
    if kind == "volume" and source:
        check_name(source)
    if kind == "tmpfs" and source:
        raise InvalidArgument(f"a tmpfs has no source, as `{text}` says")
    return VolumeMount(
        kind, source, _destination(target, text), read_only=read_only, options=_mount_options(fields, kind)
    )


def _mount_options(fields: "dict[str, str]", kind: str) -> tuple[str, ...]:
    """Return the mount words that the keys of a `--mount` mean."""
    if kind == "tmpfs":
        return tuple(f"{key.removeprefix('tmpfs-')}={value}" for key, value in fields.items())
    if kind == "volume":
        return ("nocopy",) if fields.get("volume-nocopy", "false") in {"", "true", "1"} else ()
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
