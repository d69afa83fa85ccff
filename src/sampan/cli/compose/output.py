"""Lines of many containers on one screen: each with its container's name, every service in a colour of its own."""

from sampan.cli import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.flags import Parsed
    from sampan.cli.render import Printer
    from sampan.engine.logs import Line

# cyan, yellow, green, magenta, blue, and the same bright: docker's.
_COLOURS = ("36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1")


class Output:
    """Shows lines; `labels` are the names that were given out so far."""

    def __init__(self, printer: "Printer", parsed: "Parsed", project_name: str) -> None:
        self._prefix = f"{project_name}-"
        self._is_bare = parsed.is_set("no-log-prefix")
        self._is_stamped = parsed.is_set("timestamps")
        ansi = parsed.outer.text("ansi", "auto") if parsed.outer else "auto"
        self._is_coloured = ansi == "always" or (
            printer.out_colour and ansi != "never" and not parsed.is_set("no-color")
        )
        self.labels: list[str] = []

    def label(self, name: str) -> str:
        """Return what a container is called on the screen: its name without the project's."""
        label = name.removeprefix(self._prefix)
        if label not in self.labels:
            self.labels.append(label)
        return label

    def show(self, label: str, line: "Line") -> None:
        """Write one stored line, whole."""
        stamp = f"{line.time} ".encode() if self._is_stamped else b""
        data = line.data if line.data.endswith(b"\n") else line.data + b"\n"
        render.write(1, self._name(label) + stamp + data)

    def note(self, label: str, text: str) -> None:
        """Write a line about a container."""
        render.write(1, f"{render.visible(label)} {text}\n".encode())

    def _name(self, label: str) -> bytes:
        if self._is_bare:
            return b""
        width = max(map(len, self.labels), default=0)
        text = f"{render.visible(label).ljust(width)}  | "
        if self._is_coloured and label in self.labels:
            text = f"\x1b[{_COLOURS[self.labels.index(label) % len(_COLOURS)]}m{text}\x1b[0m"
        return text.encode()
