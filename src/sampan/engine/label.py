"""What has which labels, as `--filter label=…` and the filters of the prunes ask for it. Pure."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def has_all(labels: "Mapping[str, str]", wanted: "Iterable[str]") -> bool:
    """Tell whether `labels` have all that is wanted: `key` or `key=value` each."""
    pairs = (word.partition("=") for word in wanted)
    return all(key in labels and (not equals or labels[key] == value) for key, equals, value in pairs)


class Selection:
    """What the filters of a prune take: `until` are moments in nanoseconds, `without` the words of `label!`."""

    __slots__ = ("until", "wanted", "without")

    def __init__(
        self, *, until: "Iterable[int]" = (), wanted: "Iterable[str]" = (), without: "Iterable[str]" = ()
    ) -> None:
        self.until = tuple(until)
        self.wanted = tuple(wanted)
        self.without = tuple(without)

    def takes(self, labels: "Mapping[str, str]", created: int) -> bool:
        """Tell whether a thing with these labels that is as old is taken; `created` in nanoseconds."""
        return (
            self.is_older(created)
            and has_all(labels, self.wanted)
            and not any(has_all(labels, [word]) for word in self.without)
        )

    def is_older(self, moment: int) -> bool:
        """Tell whether a moment, in nanoseconds, is before every `until`."""
        return all(moment <= until for until in self.until)

    @property
    def asks_for_labels(self) -> bool:
        """Tell whether things that have no labels are not meant."""
        return bool(self.wanted or self.without)


EVERYTHING = Selection()
