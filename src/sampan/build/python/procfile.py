"""A Procfile's web process, as far as it is a plain command: no shell is in the image to read more. Pure."""

from sampan.errors import InvalidArgument, Place

DEFAULT_PORT = 8000
_SERVERS = ("gunicorn", "waitress-serve", "uvicorn", "hypercorn", "python", "python3")
_SHELL = frozenset("|&;<>()`\\*?[]{}~")


class Web:
    """The words of the command and where it stands."""

    __slots__ = ("place", "words")

    def __init__(self, words: tuple[str, ...], place: Place) -> None:
        self.words = words
        self.place = place


def web(content: bytes | None) -> Web | None:
    """Return the `web:` process; None where there is none, or where it is Flask's development server."""
    for number, line in enumerate((content or b"").decode(errors="replace").splitlines(), 1):
        kind, mark, command = line.partition(":")
        if kind.strip() == "web" and mark:
            return _parse(command.strip(), Place("Procfile", number, line[:200]))
    return None


def port(words: tuple[str, ...]) -> int | None:
    """Return the port that a server's command binds: `--bind 0.0.0.0:8000`, `-b :8000`, `--port=8000`."""
    flags = ("--bind", "-b", "--port", "--listen", "-p")
    for index, word in enumerate(words):
        flag, mark, value = word.partition("=")
        if flag in flags:
            value = value if mark else (words[index + 1] if index + 1 < len(words) else "")
            number = value.rpartition(":")[2]
            if number.isascii() and number.isdigit() and 0 < int(number[:6]) < 65536:
                return int(number)
    return None


def _parse(command: str, place: Place) -> Web | None:
    import shlex

    text = command.replace("${PORT:-", "$PORT{").replace("${PORT}", "$PORT")
    if "$PORT{" in text:
        head, _, rest = text.partition("$PORT{")
        text = head + rest.replace("}", "", 1)
    text = text.replace("$PORT", str(DEFAULT_PORT))
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise InvalidArgument("the Procfile's web process is not a command", at=place) from error
    if words[:2] == ("flask", "run") or words[1:4] == ("-m", "flask", "run"):
        return None  # the development server, debugger and reloader with it, is never what an image runs
    if not words or words[0] not in _SERVERS or "$" in text or _SHELL & set(text.partition("'")[0].partition('"')[0]):
        if words and not (_SHELL & set(text)) and "$" not in text:
            return Web(words, place)
        hint = "write it as a plain command, as in `web: gunicorn app:app`"
        raise InvalidArgument(
            "the Procfile's web process needs a shell, and the image has none", hints=(hint,), at=place
        )
    return Web(words, place)
