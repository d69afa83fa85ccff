"""Packages by their hashes: from `cache/debs` or a mirror's pool, several at once; what a mirror changed is refused."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from sampan.build.debian import index, shelf
from sampan.build.debian.mirror import CONNECTIONS, Mirror
from sampan.build.debian.stanza import MAX_DEB_BYTES, Package
from sampan.errors import Corrupt, NotFound, Unavailable
from sampan.events import Event
from sampan.settings.apt import Apt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.events import Sink

T = TypeVar("T")


class Pool:
    """The packages that a machine's mirror and cache have."""

    def __init__(self, apt: Apt, mirror: Mirror, cache: str) -> None:
        """Keep what is fetched in `cache`/debs."""
        self._apt = apt
        self._mirror = mirror
        self._directory = f"{cache}/debs"

    def read(self, packages: Sequence[tuple[str, Package]], use: Callable[[str, bytes], T], sink: "Sink") -> list[T]:
        """Return what `use` makes of each package's name and .deb, in order; `packages` are pairs with their suite.

        `use` runs in several threads, each package as soon as it is here. Raises NotFound, Unavailable, Corrupt.
        """
        with ThreadPoolExecutor(CONNECTIONS) as fetchers:
            fetched = [fetchers.submit(self.fetch, *item) for item in packages]
            try:
                return _used([package.name for _, package in packages], fetched, use, sink)
            except BaseException:
                fetchers.shutdown(cancel_futures=True)
                raise

    def fetch(self, suite: str, package: Package) -> bytes:
        """Return the .deb, with the hash that its index says."""
        path = f"{self._directory}/{package.sha256}.deb"
        kept = shelf.read(path, MAX_DEB_BYTES)
        if kept is not None and hashlib.sha256(kept).hexdigest() == package.sha256:
            return kept
        root = _root(self._apt, suite)
        try:
            contents = self._mirror.fetch(root, package.file, limit=min(package.size_bytes, MAX_DEB_BYTES))
        except NotFound as error:
            hints = (
                "take what the mirror has now: `sampan build --upgrade`",
                "or name a mirror that keeps old packages",
            )
            raise NotFound(f"the mirror no longer has `{package.name}` {package.version}", hints=hints) from error
        if hashlib.sha256(contents).hexdigest() != package.sha256:
            raise Corrupt(
                f"the package `{package.name}` {package.version} is not what the signed index says: its hash differs"
            )
        shelf.keep(path, contents)
        return contents


def _used(
    names: Sequence[str], fetched: "Sequence[Future[bytes]]", use: Callable[[str, bytes], T], sink: "Sink"
) -> list[T]:
    with ThreadPoolExecutor(os.cpu_count() or 1) as users:
        used = []
        for number, (name, waiting) in enumerate(zip(names, fetched, strict=True), 1):
            used.append(users.submit(use, name, waiting.result()))
            sink(Event("progress", "Debian packages", name, current=number, total=len(names)))
        return [item.result() for item in used]


def _root(apt: Apt, suite: str) -> str:
    if not suite.endswith("-security"):
        return index.archive(apt).uri
    security = next((archive for archive in apt.archives if archive.is_security()), None)
    if security is None:
        hints = ("add Debian's security archive to apt's sources", "or choose packages anew with `--upgrade`")
        raise Unavailable("the base has security updates, and apt here has no archive of them", hints=hints)
    return security.uri
