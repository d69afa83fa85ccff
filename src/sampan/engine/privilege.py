"""What the root of a container may do: docker's capabilities, changed by `--cap-add` and `--cap-drop`."""

from sampan.errors import InvalidArgument
from sampan.kernel import capability
from sampan.runtime.standard import CAPABILITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.engine.run_options import RunOptions


def of(options: "RunOptions") -> tuple[str, ...]:
    """Return the names of what the container's root may do: docker's, `--cap-drop`, then `--cap-add`."""
    if options.privileged:
        return every()
    dropped, added = {_capability(w) for w in options.cap_drop}, {_capability(w) for w in options.cap_add}
    if "CAP_ALL" in added:
        return tuple(n for n in every() if n not in dropped)
    kept = () if "CAP_ALL" in dropped else tuple(n for n in CAPABILITIES if n not in dropped)
    return (*kept, *(n for n in capability.NAMES if n in added and n not in kept))


def every() -> tuple[str, ...]:
    """Return the names of all capabilities that this kernel knows."""
    return capability.NAMES[: capability.last() + 1]


def _capability(word: str) -> str:
    name = "CAP_" + word.upper().removeprefix("CAP_")
    if name != "CAP_ALL" and name not in capability.NAMES:
        raise InvalidArgument(f"`{word}` is no capability", hints=("see capabilities(7) for their names",))
    return name
