"""`--change` of `import` and `commit`: Dockerfile instructions that set what an image's config says."""

import json
import shlex

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sampan.document import Document

_SHELL = ["/bin/sh", "-c"]


def config_with(changes: "Iterable[str]", base: "Document | None" = None) -> "Document":
    """Return the `config` object (image-spec config.md#properties) that the instructions make of `base`.

    Raises InvalidArgument.
    """
    config: Document = dict(base or {})
    for change in changes:
        word, _, rest = change.strip().partition(" ")
        apply = _INSTRUCTIONS.get(word.upper())
        if apply is None:
            raise _invalid(change, word)
        try:
            apply(config, rest.strip())
        except ValueError as error:
            raise InvalidArgument(f"`{change}` cannot be read", hints=("write it as in a Dockerfile",)) from error
    return config


def _invalid(change: str, word: str) -> InvalidArgument:
    import difflib

    near = difflib.get_close_matches(word.upper(), _INSTRUCTIONS, 1)
    hint = f"did you mean `{near[0]}`?" if near else f"it can be one of {', '.join(_INSTRUCTIONS)}"
    return InvalidArgument(f"`{change}` is no instruction that `--change` takes", hints=(hint,))


def _command(key: str) -> "Callable[[Document, str], None]":
    def apply(config: "Document", text: str) -> None:
        config[key] = _exec_form(text) or [*_SHELL, text]

    return apply


def _exec_form(text: str) -> list[str] | None:
    """Read `["a", "b"]`; None where it is a shell's line."""
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except ValueError:
        return None
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def _word(key: str) -> "Callable[[Document, str], None]":
    def apply(config: "Document", text: str) -> None:
        if not text:
            raise ValueError(key)
        config[key] = text

    return apply


def _pairs(text: str) -> dict[str, str]:
    """Read `a=b c="d e"`, or the old `a the rest`."""
    words = shlex.split(text)
    if not words:
        raise ValueError(text)
    if "=" not in words[0]:
        key, _, value = text.partition(" ")
        return {key: value.strip()}
    if not all("=" in word for word in words):
        raise ValueError(text)
    return dict(word.split("=", 1) for word in words)


def _environment(config: "Document", text: str) -> None:
    known = dict(pair.split("=", 1) for pair in config.get("Env", ()))
    config["Env"] = [f"{key}={value}" for key, value in (known | _pairs(text)).items()]


def _labels(config: "Document", text: str) -> None:
    config["Labels"] = config.get("Labels", {}) | _pairs(text)


def _ports(config: "Document", text: str) -> None:
    ports = [port if "/" in port else f"{port}/tcp" for port in text.split()]
    if not ports or not all(port.split("/", 1)[0].isdigit() for port in ports):
        raise ValueError(text)
    config["ExposedPorts"] = config.get("ExposedPorts", {}) | {port: {} for port in ports}


def _volumes(config: "Document", text: str) -> None:
    paths = _exec_form(text) or text.split()
    if not paths:
        raise ValueError(text)
    config["Volumes"] = config.get("Volumes", {}) | {path: {} for path in paths}


_INSTRUCTIONS: "dict[str, Callable[[Document, str], None]]" = {
    "CMD": _command("Cmd"),
    "ENTRYPOINT": _command("Entrypoint"),
    "ENV": _environment,
    "EXPOSE": _ports,
    "LABEL": _labels,
    "STOPSIGNAL": _word("StopSignal"),
    "USER": _word("User"),
    "VOLUME": _volumes,
    "WORKDIR": _word("WorkingDir"),
}
