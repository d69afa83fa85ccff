"""What the texts say, read and checked: a project, its services, and the networks, volumes and files they use. Values.

`values` is the canonical form, in the words and types of the Compose specification (`specification`); `node` knows
where each key stands, for errors that only show later.
"""

from collections.abc import Mapping

from sampan.compose.model import node as nodes
from sampan.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.errors import Place

# A document of the specification's own words; Any, since whoever takes a value out narrows it at once.
Values = dict[str, "Any"]

# What joins another service's namespace begins so.
SERVICE = "service:"
STARTED, HEALTHY, COMPLETED = "service_started", "service_healthy", "service_completed_successfully"


@frozen
class Dependency:
    """That a service waits for another: `condition` is STARTED, HEALTHY or COMPLETED."""

    condition: str = STARTED
    is_required: bool = True
    restarts: bool = False


@frozen
class Service:
    """One service in long forms, which begins `at`; in `environment` are its files' and the caller's values too."""

    name: str
    values: Values
    node: nodes.Mapping
    at: "Place"
    environment: Mapping[str, str]

    @property
    def image(self) -> str:
        """Return the image's name as written; empty where it is only built."""
        return str(self.values.get("image", ""))

    @property
    def build(self) -> Values | None:
        """Return how it is built, None where it is not."""
        found: Values | None = self.values.get("build")
        return found

    @property
    def dependencies(self) -> dict[str, Dependency]:
        """Return what it waits for: depends_on, links, whose volumes it has, and whose namespaces it joins."""
        found = {link.partition(":")[0]: Dependency() for link in self.values.get("links", ())}
        others = (word.partition(":")[0] for word in self.values.get("volumes_from", ()))
        found |= {name: Dependency() for name in others if name != "container"}
        found |= dict.fromkeys(self.joined.values(), Dependency(restarts=True))
        for name, told in self.values.get("depends_on", {}).items():
            found[name] = Dependency(
                condition=told["condition"], is_required=told["required"], restarts=told.get("restart", False)
            )
        return found

    @property
    def joined(self) -> dict[str, str]:
        """Return the services whose namespaces it joins, by the key that says so."""
        words = {key: str(self.values.get(key) or "") for key in ("network_mode", "pid", "ipc")}
        return {key: word.removeprefix(SERVICE) for key, word in words.items() if word.startswith(SERVICE)}

    @property
    def profiles(self) -> list[str]:
        """Return the profiles that it belongs to; without one it is always there."""
        found: list[str] = self.values.get("profiles", [])
        return found

    @property
    def scale(self) -> int:
        """Return how many containers it has."""
        return int(self.values.get("scale", self.values.get("deploy", {}).get("replicas", 1)))

    @property
    def networks(self) -> dict[str, Values]:
        """Return the networks that it is in, by their key in the file."""
        return {key: told or {} for key, told in self.values.get("networks", {}).items()}

    def place(self, key: str) -> "Place":
        """Return where a key stands, or where the service begins."""
        return self.node.place_of(key) if key in self.node.entries else self.at


@frozen
class Resource:
    """A network, volume, secret or config: `key` names it in the file, `name` on this machine."""

    key: str
    name: str
    values: Values
    is_external: bool
    place: "Place"


@frozen
class Project:
    """A whole project; `disabled` are services whose profiles were not asked for."""

    name: str
    directory: str
    files: tuple[str, ...]
    environment: Mapping[str, str]
    services: dict[str, Service]
    disabled: dict[str, Service]
    networks: dict[str, Resource]
    volumes: dict[str, Resource]
    secrets: dict[str, Resource]
    configs: dict[str, Resource]
    # Top-level `x-…` keys.
    extensions: Values
    warnings: tuple[str, ...]
