"""A store with a busybox base, a context directory, and a way to build the one onto the other."""

import io
import os
import tarfile
from dataclasses import dataclass, field
from typing import Any

from sampan.build import builder
from sampan.build.dockerfile.lower import Request
from sampan.build.stages import Options
from sampan.database import connection
from sampan.events import Event
from sampan.image.content import Content
from sampan.image.importer import import_root
from sampan.image.store import Image
from sampan.oci.reference import Reference
from sampan.settings.configuration import Settings

NOW = 1_700_000_000


@dataclass
class Kitchen:
    """One store and one context."""

    place: str
    environment: dict[str, str]
    events: list[Event] = field(default_factory=list)
    now: float = NOW

    @property
    def context(self) -> str:
        """The context's directory."""
        return f"{self.place}/context"

    @property
    def settings(self) -> Settings:
        """The settings of this store."""
        return Settings(self.environment, os.geteuid())

    def bring(self, tar: str, name: str, *changes: str) -> None:
        """Import a root file system."""
        with connection.open(self.settings) as database, open(tar, "rb") as file:
            import_root(database, file, Reference.parse(name), now=NOW, changes=changes)

    def write(self, path: str, content: str = "x", mode: int = 0o644) -> None:
        """Write a file of the context."""
        whole = f"{self.context}/{path}"
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        with open(whole, "w", encoding="utf-8") as file:
            file.write(content)
        os.chmod(whole, mode)

    def build(
        self,
        text: str,
        *,
        tag: str = "",
        no_cache: bool = False,
        secrets: dict[str, bytes] | None = None,
        **request: Any,  # noqa: ANN401 -- Request's own
    ) -> Image:
        """Build a Dockerfile's text."""
        self.events.clear()
        self.write("Dockerfile", text)
        settings = self.settings
        wanted = Request(architecture=builder.architecture(), epoch=builder.epoch(settings), **request)
        tags = [Reference.parse(tag)] if tag else []
        options = Options(wanted, tags=tags, no_cache=no_cache, secrets=secrets)
        with connection.open(settings) as database:
            return builder.build_dockerfile(
                settings, database, self.context, options, sink=self.events.append, clock=lambda: self.now
            ).image

    def made(self) -> list[str]:
        """Return the first words of the steps that the last build made, not found."""
        return [
            event.subject.split()[0]
            for event in self.events
            if event.kind == "done" and not event.text and event.current and event.subject not in self._reused()
        ]

    def reused(self) -> list[str]:
        """Return what the last build said of the steps that it did not run, since they would see what they saw."""
        return list(self._reused().values())

    def _reused(self) -> dict[str, str]:
        found = [event for event in self.events if event.kind == "done" and event.text not in {"", "cached"}]
        return {event.subject: event.text for event in found}

    def said(self) -> list[str]:
        """Return what the steps of the last build printed."""
        return [event.text for event in self.events if event.kind == "output"]

    def warned(self) -> list[str]:
        """Return the last build's warnings."""
        return [event.text for event in self.events if event.kind == "warning"]

    def leftovers(self) -> list[str]:
        """Return what builds left in the scratch directory."""
        scratch = f"{self.settings.root}/cache/scratch"
        return os.listdir(scratch) if os.path.isdir(scratch) else []

    def layer(self, image: Image, number: int = -1) -> dict[str, tarfile.TarInfo]:
        """Return the entries of one layer by their names."""
        raw = Content(self.settings.root).read(image.layers[number], 1 << 30)
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
            return {item.name: item for item in archive.getmembers()}

    def content(self, image: Image, path: str, number: int = -1) -> str:
        """Return the content of a file of one layer."""
        raw = Content(self.settings.root).read(image.layers[number], 1 << 30)
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
            file = archive.extractfile(path)
            assert file is not None
            return file.read().decode()


def config(image: Image) -> dict[str, Any]:
    """Return what the image runs."""
    found: dict[str, Any] = image.config["config"]
    return found
