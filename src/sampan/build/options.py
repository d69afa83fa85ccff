"""How to build: what the person asked for, and for which platform. Hot."""


class Options:
    """`locked` refuses to resolve, `upgrade` resolves anew, `no_cache` makes every layer again."""

    __slots__ = ("architecture", "locked", "no_cache", "upgrade")

    def __init__(self, *, locked: bool, upgrade: bool, no_cache: bool, architecture: str) -> None:
        self.locked = locked
        self.upgrade = upgrade
        self.no_cache = no_cache
        self.architecture = architecture

    @property
    def platform(self) -> str:
        """The platform as a lock names it."""
        return f"linux/{self.architecture}"
