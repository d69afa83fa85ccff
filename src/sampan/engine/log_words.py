"""`--log-driver` and `--log-opt`: what a container's log is, in docker's words. Hot path only where one is given.

    json-file   logs/json.log, docker's lines; rotated at max-size (10m), max-file (3) of them
    local       the same file: docker's own format is read by docker alone
    none        nothing is kept, `logs` is an error

`labels`, `labels-regex`, `env`, `env-regex` and `tag` add words to each line (`logs --details`). `mode` and
`max-buffer-size` are docker's cure for a driver that is slow: here nothing waits for a log (`output`), so both are
checked, and change nothing.
"""

import re

from sampan.engine.output import FILE_BYTES, FILES
from sampan.errors import InvalidArgument, Unsupported
from sampan.units import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.document import Document
    from sampan.engine.record import Container

JSON_FILE, LOCAL, NONE = "json-file", "local", "none"
DRIVERS = (JSON_FILE, LOCAL, NONE)
# docker's others: each sends the output to a service.
_REMOTE = ("awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "journald", "logentries", "splunk", "syslog")
_DELIVERY = ("max-buffer-size", "mode")
_FILE = ("compress", "max-file", "max-size")
_WORDS = ("env", "env-regex", "labels", "labels-regex", "tag")
_KNOWN = {JSON_FILE: (*_DELIVERY, *_FILE, *_WORDS), LOCAL: (*_DELIVERY, *_FILE), NONE: ()}
_MOST_FILES = 1000
# Of docker's tag; other things of Go's templates are not there.
_FIELDS = ("Command", "DaemonName", "FullID", "ID", "ImageFullID", "ImageID", "ImageName", "Name")
# Each line of the log carries them.
_MOST_ATTRIBUTE_BYTES = 16 * 1024
_LEAST_FILE_BYTES = 1024


def check(driver: str, options: "Mapping[str, str]") -> None:
    """Raise Unsupported for a driver that is not there, InvalidArgument for options that it does not have."""
    driver = driver or JSON_FILE
    if driver in _REMOTE:
        raise Unsupported(
            f"the logging driver `{driver}` is not there",
            hints=("have a collector read the file that `sampan inspect -f '{{.LogPath}}'` names",),
        )
    if driver not in DRIVERS:
        raise InvalidArgument(f"there is no logging driver `{driver}`", hints=(f"there are: {', '.join(DRIVERS)}",))
    for name in options:
        if name not in _KNOWN[driver]:
            known = f"there are: {', '.join(sorted(_KNOWN[driver]))}" if _KNOWN[driver] else "it takes none"
            raise InvalidArgument(f"`{name}` is no option of the logging driver `{driver}`", hints=(known,))
    _file_bytes(options)
    _files(options)
    _check_delivery(options)
    if options.get("compress", "false") not in {"false", "0"}:
        raise Unsupported("`compress` of the logging driver is not there", hints=("make `max-size` smaller",))
    for name in ("env-regex", "labels-regex"):
        _pattern(name, options.get(name, ""))
    _filled(options.get("tag", ""), dict.fromkeys(_FIELDS, ""))


def plan(container: "Container") -> "Document | None":
    """Return what `output.OutputLog` takes beside its directory; None where nothing is kept."""
    options = container.options.log_options
    if container.options.log_driver == NONE:
        return None
    found = {"file_bytes": _file_bytes(options), "files": _files(options)}
    attributes = _attributes(container, options)
    if sum(len(name) + len(value) for name, value in attributes.items()) > _MOST_ATTRIBUTE_BYTES:
        raise InvalidArgument("the labels and variables that `--log-opt` adds to each line are longer than 16 KiB")
    return found | {"attributes": attributes}


def _attributes(container: "Container", options: "Mapping[str, str]") -> dict[str, str]:
    """Return docker's ExtraAttributes, and its tag."""
    config = container.config
    variables = dict(word.partition("=")[::2] for word in config["Env"])
    found: dict[str, str] = {}
    for values, names, pattern in (
        (config["Labels"], options.get("labels", ""), options.get("labels-regex", "")),
        (variables, options.get("env", ""), options.get("env-regex", "")),
    ):
        chosen = [name.strip() for name in names.split(",") if name.strip()]
        found |= {name: values[name] for name in chosen if name in values}
        if pattern:
            matches = _pattern("", pattern)
            found |= {name: value for name, value in values.items() if matches.search(name)}
    if options.get("tag"):
        found["tag"] = _filled(options["tag"], _fields(container))
    return dict(sorted(found.items()))


def _fields(container: "Container") -> dict[str, str]:
    image = container.image_id.removeprefix("sha256:")
    values = (" ".join(container.arguments), "sampan", container.id, container.short_id)
    return dict(
        zip(_FIELDS, (*values, container.image_id, image[:12], container.options.image, container.name), strict=True)
    )


def _filled(text: str, fields: "Mapping[str, str]") -> str:
    """Return a tag with its fields filled in; raises InvalidArgument."""
    told, *parts = text.split("{{")
    for part in parts:
        field, closed, rest = part.partition("}}")
        name = field.strip()
        if not closed or not name.startswith(".") or name[1:] not in fields:
            known = ", ".join(f"{{{{.{field}}}}}" for field in fields)
            raise InvalidArgument(f"`tag={text}` of the logging driver cannot be read", hints=(f"fields: {known}",))
        told += fields[name[1:]] + rest
    return told


def _file_bytes(options: "Mapping[str, str]") -> int:
    if "max-size" not in options:
        return FILE_BYTES
    size = parse_size(options["max-size"])
    if size < _LEAST_FILE_BYTES:
        raise InvalidArgument(f"`max-size={options['max-size']}` is less than a kilobyte")
    return size


def _files(options: "Mapping[str, str]") -> int:
    word = options.get("max-file", str(FILES))
    if not word.isascii() or not word.isdigit() or not 1 <= int(word[:9]) <= _MOST_FILES:
        raise InvalidArgument(f"`max-file={word}` is no number of files", hints=(f"write 1 to {_MOST_FILES}",))
    return int(word)


def _check_delivery(options: "Mapping[str, str]") -> None:
    mode = options.get("mode", "")
    if mode not in {"", "blocking", "non-blocking"}:
        raise InvalidArgument(f"`mode={mode}` is unknown", hints=("there are `blocking` and `non-blocking`",))
    if "max-buffer-size" in options:
        parse_size(options["max-buffer-size"])
        if mode != "non-blocking":
            raise InvalidArgument("`max-buffer-size` goes with `mode=non-blocking`", hints=("leave it out",))


def _pattern(name: str, text: str) -> "re.Pattern[str]":
    try:
        return re.compile(text)
    except re.error as error:
        raise InvalidArgument(f"`{name}={text}` is no pattern") from error
