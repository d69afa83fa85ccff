"""Instructions that make no layer: each changes the config of the image (image-spec config.md). Pure, hot."""

from sampan.build.dockerfile import expand
from sampan.build.dockerfile import state as states
from sampan.build.dockerfile.instruction import Exec, Healthcheck, Onbuild, Pairs, Several, Single, suggest
from sampan.errors import Internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.build.dockerfile.instruction import Instruction
    from sampan.build.dockerfile.state import State
    from sampan.document import Document

    Unset = Callable[[str], object]


def apply(item: "Instruction", state: "State", unset: "Unset") -> None:
    """Change `state` as `item` says; `unset` is told of variables without a value. Raises InvalidArgument."""
    match item:
        case Pairs():
            _pairs(item, state, unset)
        case Exec():
            _command(item, state)
        case Several() if item.keyword == "EXPOSE":
            _ports(item, state, unset)
        case Several():
            _volumes(item, state, unset)
        case Healthcheck():
            _healthcheck(item, state)
        case Onbuild():
            state.config["OnBuild"] = [*(state.config.get("OnBuild") or []), item.trigger]
        case Single():
            _word(item, state, unset)
        case _:
            raise Internal(f"nothing lowers {item.keyword}")


def single(item: Single, state: "State", unset: "Unset") -> str:
    """Return the value of an instruction that takes one."""
    value = state.expander(item, unset)(item.value)
    if not value:
        raise item.wrong(f"{item.keyword} is empty", f"`{item.value}` has no value")
    return value


def _pairs(item: Pairs, state: "State", unset: "Unset") -> None:
    """ENV and LABEL: all values see what held before the line."""
    one = state.expander(item, unset)
    found = {one(key): one(value) for key, value in item.items}
    if item.keyword == "ENV":
        if any(not key or "\0" in key + value for key, value in found.items()):
            raise item.wrong("a variable of ENV has no name")
        state.environment |= found
        state.variables |= found
        state.config["Env"] = [f"{key}={value}" for key, value in state.environment.items()]
    else:
        state.config["Labels"] = {**(state.config.get("Labels") or {}), **found}
    state.note(" ".join([item.keyword, *(f"{key}={value}" for key, value in found.items())]))


def _command(item: Exec, state: "State") -> None:
    """CMD, ENTRYPOINT, SHELL."""
    words = item.words if item.is_exec else [*state.shell, *item.words] if item.words != [""] else []
    if item.keyword == "SHELL":
        state.config["Shell"] = words
        state.note(f"SHELL [{' '.join(words)}]")
        return
    if item.keyword == "CMD":
        state.config["Cmd"] = words
        state.has_command = True
    else:
        state.config["Entrypoint"] = words or None
        if not state.has_command:
            # A base's CMD was meant for the base's ENTRYPOINT.
            state.config["Cmd"] = None
    state.note(f"{item.keyword} [{' '.join(_quoted(word) for word in words)}]")


def _ports(item: Several, state: "State", unset: "Unset") -> None:
    at, escape = item.statement.at, item.statement.escape
    words = expand.words(" ".join(item.words), state.variables, at, escape=escape, unset=unset)
    found = states.ports(words, item)
    state.config["ExposedPorts"] = {**(state.config.get("ExposedPorts") or {}), **{port: {} for port in found}}
    state.note(f"EXPOSE [{' '.join(sorted(found))}]")


def _volumes(item: Several, state: "State", unset: "Unset") -> None:
    paths = [state.expander(item, unset)(word) for word in item.words]
    if not all(paths):
        raise item.wrong("a path of VOLUME is empty")
    state.config["Volumes"] = {**(state.config.get("Volumes") or {}), **{path: {} for path in paths}}
    state.note(f"VOLUME [{' '.join(paths)}]")


def _healthcheck(item: Healthcheck, state: "State") -> None:
    found: Document = {"Test": item.test}
    for name, key in (
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start-period", "StartPeriod"),
        ("start-interval", "StartInterval"),
    ):
        if number := states.nanoseconds(item.times[name], name, item):
            found[key] = number
    if item.retries:
        if not (item.retries.isascii() and item.retries.isdigit() and len(item.retries) < 10):
            raise item.wrong(f"`--retries={item.retries[:40]}` is no number")
        found["Retries"] = int(item.retries)
    state.config["Healthcheck"] = found
    state.note(item.statement.text)


def _word(item: Single, state: "State", unset: "Unset") -> None:
    """MAINTAINER, USER, STOPSIGNAL."""
    if item.keyword == "MAINTAINER":
        state.author = item.value
        state.note(f"MAINTAINER {item.value}")
        return
    value = single(item, state, unset)
    if item.keyword == "STOPSIGNAL":
        _check_signal(value, item)
    state.config["User" if item.keyword == "USER" else "StopSignal"] = value
    state.note(f"{item.keyword} {value}")


def _quoted(word: str) -> str:
    """Print a word as docker's history does."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'


def _check_signal(word: str, item: Single) -> None:
    """Raise InvalidArgument unless `word` is a signal's number or name (signal(7))."""
    import signal  # 3 ms, so only where there is a STOPSIGNAL

    name = word.upper().removeprefix("SIG")
    known = {number.name.removeprefix("SIG") for number in signal.Signals}
    is_number = word.isascii() and word.isdigit() and 0 < int(word[:4]) < 65
    if is_number or name in known or name.startswith(("RTMIN+", "RTMAX-")):
        return
    near = suggest(name, sorted(known))
    raise item.wrong(
        f"`{word[:40]}` is no signal", f"did you mean `SIG{near[0]}`?" if near else "write it like `SIGINT`"
    )
