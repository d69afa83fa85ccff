"""The person's end of a container: which of this process's streams are joined to it, and how to leave. Hot."""

import os

from sampan.cli.render import OutputGone
from sampan.engine.attach import DETACH_KEYS
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.flags import Parsed
    from sampan.engine.attach import Client


def relay(client: "Client", parsed: "Parsed", *, stdin: bool, tty: bool, signal_proxy: bool) -> int:
    """Copy between this terminal and a container until it ends or is left; return its status."""
    stdout, stderr = _streams(parsed)
    try:
        status = client.relay(
            stdin=0 if stdin else None,
            stdout=stdout,
            stderr=stderr,
            tty=tty,
            detach_keys=detach_keys(parsed),
            signal_proxy=signal_proxy,
        )
    except BrokenPipeError as error:
        raise OutputGone from error
    return status or 0


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


def detach_keys(parsed: "Parsed") -> bytes:
    """Return the bytes of `--detach-keys`; raises UsageError."""
    keys = parsed.convert("detach-keys", _keys)
    return DETACH_KEYS if keys is None else keys


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
