"""The person's end of a container: which of this process's streams are joined to it, and how to leave. Hot."""

import os

from sampan.cli.render import OutputGone, write
from sampan.engine.attach import DETACH_KEYS
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.flags import Parsed
    from sampan.engine.attach import Client
    from sampan.settings.configuration import Settings


def relay(
    client: "Client",
    parsed: "Parsed",
    settings: "Settings",
    *,
    stdin: bool,
    tty: bool,
    signal_proxy: bool,
    left_status: int = 0,
    is_redrawn: bool = False,
) -> int:
    """Copy between this terminal and a container until it ends; return its status, or `left_status` where it is left.

    docker's `run` and `start` end with 0 when they are left, its `attach` and `exec` with 1 and a word. `is_redrawn`:
    whoever runs in there is made to draw its screen once more.
    """
    stdout, stderr = _streams(parsed)
    try:
        status = client.relay(
            stdin=0 if stdin else None,
            stdout=stdout,
            stderr=stderr,
            tty=tty,
            detach_keys=detach_keys(parsed, settings) if tty and stdin else b"",
            signal_proxy=signal_proxy,
            is_redrawn=is_redrawn,
        )
    except BrokenPipeError as error:
        raise OutputGone from error
    if status is None and left_status:
        write(2, b"read escape sequence\n")
    return left_status if status is None else status


def window() -> tuple[int, int] | None:
    """Return rows and columns of the terminal at stdin, None where there is none."""
    try:
        size = os.get_terminal_size(0)
    except OSError:
        return None
    return size.lines, size.columns


def check(*, tty: bool, interactive: bool) -> None:
    """Refuse `-it` where stdin is no terminal, as docker does."""
    if tty and interactive and not os.isatty(0):
        raise InvalidArgument("`-t` with `-i` needs a terminal as stdin", hints=("leave `-t` out when you pipe",))


def detach_keys(parsed: "Parsed", settings: "Settings") -> bytes:
    """Return the bytes of `--detach-keys`, else of `detachKeys` in docker's config.json, else docker's own.

    Raises UsageError, InvalidArgument.
    """
    keys = parsed.convert("detach-keys", _keys)
    if keys is None and os.path.exists(settings.docker_file):
        from sampan.settings import preference  # only where somebody has some

        keys = preference.detach_keys(settings.docker_file, _keys)
    return keys or DETACH_KEYS


def _keys(text: str) -> bytes:
    """Read `ctrl-p,ctrl-q`: single characters and ctrl- with a letter or one of @ ^ [ , _ (term.ToBytes of docker)."""
    result = b""
    for word in text.split(",") if text else ():
        letter = word.removeprefix("ctrl-").upper()
        if len(word) == 1 and word.isascii():
            result += word.encode()
        elif word.startswith("ctrl-") and len(letter) == 1 and "@" <= letter <= "_":
            result += bytes([ord(letter) - 64])
        else:
            raise InvalidArgument(f"`{word}` is not a key", hints=("write keys like `ctrl-p,ctrl-q`",))
    return result


def _streams(parsed: "Parsed") -> tuple[int, int]:
    """Return where stdout and stderr go: with --attach only the named ones are shown."""
    wanted = [word.lower() for word in parsed.words("attach")]
    for word in wanted:
        if word not in {"stdin", "stdout", "stderr"}:
            raise InvalidArgument(f"`{word}` is not a stream", hints=("streams: stdin, stdout, stderr",))
    if not wanted:
        return 1, 2
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    return (1 if "stdout" in wanted else nowhere), (2 if "stderr" in wanted else nowhere)
