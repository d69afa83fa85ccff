"""What families have in common: filters, inspect, and the question before a prune."""

import os

from sampan.cli import format as formats
from sampan.errors import InvalidArgument, SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sampan.cli.flags import Parsed
    from sampan.cli.render import Printer
    from sampan.document import Document


def inspect(parsed: "Parsed", printer: "Printer", find: "Callable[[str], Document]") -> int:
    """Print what `find` returns for each argument, an array without --format; go on after an error."""
    form = formats.choose(parsed)
    show = formats.filled(form) if form not in {formats.TABLE, formats.JSON} else None
    found, status = [], 0
    for name in parsed.arguments:
        try:
            document = find(name)
            if show:
                show(printer, document)
            found.append(document)
        except SampanError as error:
            printer.error(error)
            status = 1
    if form == formats.JSON:
        for document in found:
            printer.json(document)
    elif not show:
        import json

        printer.out(json.dumps(found, indent=4, ensure_ascii=False))
    return status


def filters(parsed: "Parsed", known: tuple[str, ...]) -> list[tuple[str, str]]:
    """Read the `--filter key=value` words; raises InvalidArgument."""
    found = []
    for word in parsed.words("filter"):
        key, equals, value = word.partition("=")
        if not equals or key not in known:
            raise InvalidArgument(f"unknown filter: `{word}`", hints=(f"filters: {', '.join(known)}",))
        found.append((key, value))
    return found


def passes(pairs: list[tuple[str, str]], has: "Callable[[str, str], bool]") -> bool:
    """Return whether something passes: any value of a key suffices, every key must (every label too)."""
    keys = {key for key, _ in pairs if key != "label"}
    return all(any(has(k, v) for k, v in pairs if k == key) for key in keys) and all(
        has(k, v) for k, v in pairs if k == "label"
    )


def labels_text(labels: "Mapping[str, str]") -> str:
    """Print labels as docker's listings do."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def is_sure(parsed: "Parsed", printer: "Printer", what: str) -> bool:
    """Ask the person on stderr, unless `--force` was given; anything but yes is no."""
    if parsed.is_set("force"):
        return True
    printer.warn(what)
    printer.note("type `yes` to go on:")
    if os.read(0, 64).strip().lower() in {b"y", b"yes"}:
        return True
    printer.note("nothing was removed")
    return False
