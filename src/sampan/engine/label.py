"""Labels of networks and volumes, as `--filter label=…` asks for them. Pure."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def has_all(labels: "Mapping[str, str]", wanted: "Iterable[str]") -> bool:
    """Tell whether `labels` have all that is wanted: `key` or `key=value` each."""
    pairs = (word.partition("=") for word in wanted)
    return all(key in labels and (not equals or labels[key] == value) for key, equals, value in pairs)
