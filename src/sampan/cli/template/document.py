"""Docker's inspect documents as values: which objects are maps, which may be nil, and which fields JSON leaves out.

JSON says neither, and Go's templates depend on it: a label that is missing is `<no value>`, a field that is missing is
an error. The names are the Engine API's.
"""

from sampan.cli.template.value import Duration, NilList, NilMap, Struct, Value
from sampan.errors import Exhausted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sampan.document import Document

DEPTH_AT_MOST = 64
# Keys whose objects are maps; `A.B` only inside of A.
_MAPS = frozenset(
    "Annotations Attributes Containers Data DriverOpts ExposedPorts Labels LogConfig.Config Networks Options "
    "PortBindings Ports StorageOpt Sysctls Tmpfs Volumes".split()
)
_LISTS = frozenset(
    "Aliases Args Binds CapAdd CapDrop Cmd DNSNames Dns DnsOptions DnsSearch Entrypoint Env ExecIDs ExtraHosts "
    "GroupAdd Layers MaskedPaths Mounts OnBuild ReadonlyPaths RepoDigests RepoTags SecurityOpt Shell "
    "Test Ulimits".split()
)
# Nanoseconds that Go knows as such.
_DURATIONS = frozenset(f"Healthcheck.{name}" for name in ("Interval", "StartInterval", "StartPeriod", "Timeout"))
# Fields that docker's types have although the document may not show them.
_ABSENT: dict[str, dict[str, Value]] = {
    "State": {"Health": None},
    "Config": {
        **dict.fromkeys(("Hostname", "Domainname", "User", "Image", "WorkingDir", "StopSignal"), ""),
        **dict.fromkeys(("AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"), False),
        **dict.fromkeys(("Cmd", "Entrypoint", "Env", "OnBuild", "Shell"), NilList()),
        **dict.fromkeys(("ExposedPorts", "Labels", "Volumes"), NilMap()),
        **dict.fromkeys(("Healthcheck", "StopTimeout"), None),
    },
    "Healthcheck": {
        **{name.partition(".")[2]: Duration(0) for name in sorted(_DURATIONS)},
        "Retries": 0,
        "Test": NilList(),
    },
}


def struct(document: "Document", methods: "Mapping[str, Callable[[str], str]] | None" = None) -> Struct:
    """Return a document as a value; raises Exhausted where it is nested too deep."""
    return Struct({key: _value("", key, one, 1) for key, one in document.items()}, methods=methods)


def _value(outer: str, key: str, value: Value, depth: int) -> Value:
    if depth > DEPTH_AT_MOST:
        raise Exhausted(f"the document is nested more than {DEPTH_AT_MOST} deep")
    is_map = key in _MAPS or f"{outer}.{key}" in _MAPS
    if isinstance(value, dict):
        fields = {name: _value(key, name if not is_map else "", one, depth + 1) for name, one in value.items()}
        shown = {name: one for name, one in _ABSENT.get(key, {}).items() if name not in fields}
        return fields if is_map else Struct(fields, absent=shown)
    if isinstance(value, list):
        # What is in a list called Mounts is no list called Mounts, nor a map.
        return [_value(key, "", one, depth + 1) for one in value]
    if value is None:
        return NilMap() if is_map else NilList() if key in _LISTS else None
    return Duration(value) if f"{outer}.{key}" in _DURATIONS and isinstance(value, int) else value
