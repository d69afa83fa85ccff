"""Links on the default network, where nobody has a name: lines of /etc/hosts and variables, as docker makes them.

Theory. A start request names the containers that are linked, with what their variables say of them; where they are
stands in their state files, which are read by each run, since that changes when they are started again. On a network of
one's own a link is only another name in the resolver (`network.dns`). Sources: moby's daemon/links. Hot path.
"""

from sampan.engine import state
from sampan.errors import Conflict
from sampan.network.endpoint import BRIDGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document

# What a container has of its own, whomever it is linked to.
_OWN = ("HOME", "PATH")


class Link:
    """One container that is linked: `names` are what /etc/hosts calls it, the alias first."""

    __slots__ = ("address", "names", "variables")

    def __init__(self, told: "Document", own_name: str, address: str) -> None:
        """Make it of what the request says of it; `own_name` is that of the container that has the link."""
        self.address = address
        self.names = tuple(dict.fromkeys((told["alias"], told["hostname"], told["name"])))
        self.variables = tuple(_variables(told, own_name, address))


def find(request: "Document", root: str) -> "list[Link]":
    """Return the links of a request; raises Conflict for one that leads to a container that does not run."""
    return [Link(told, request["name"], _address(told, root)) for told in request["links"]]


def _address(told: "Document", root: str) -> str:
    directory = f"{root}/containers/{told['id']}"
    seen = state.read(directory) if state.alive(directory) else state.State()
    endpoints = seen.network.get("endpoints", ()) if seen.status == state.RUNNING else ()
    for endpoint in endpoints:
        if endpoint["network"] == BRIDGE:
            return str(endpoint["address"])
    raise Conflict(
        f"the container `{told['name']}`, which is linked, does not run on the default network",
        hints=(f"start it with `sampan start {told['name']}`",),
    )


def _variables(told: "Document", own_name: str, address: str) -> "list[str]":
    prefix = told["alias"].replace("-", "_").upper()
    # docker: TCP first, since the first is what the container is said to be.
    parts = (word.partition("/") for word in told["ports"])
    ports = sorted(parts, key=lambda part: (part[2] not in {"", "tcp"}, int(part[0])))
    found = [f"{prefix}_NAME=/{own_name}/{told['alias']}"]
    if ports:
        number, _, protocol = ports[0]
        found.append(f"{prefix}_PORT={protocol or 'tcp'}://{address}:{number}")
    for number, _, word in ports:
        protocol = word or "tcp"
        key = f"{prefix}_PORT_{number}_{protocol.upper()}"
        found += [
            f"{key}={protocol}://{address}:{number}",
            f"{key}_ADDR={address}",
            f"{key}_PORT={number}",
            f"{key}_PROTO={protocol}",
        ]
    environment = [word for word in told["env"] if word.partition("=")[0] not in _OWN]
    return [*found, *(f"{prefix}_ENV_{word}" for word in environment)]
