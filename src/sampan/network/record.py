"""What containers are called on user-defined networks: one file for each, below SAMPAN_RUN. Hot path.

    SAMPAN_RUN/networks/NETWORKID/CONTAINERID    {"address": "10.218.0.2", "names": ["web", "3f1c…", "alias"]}

Each is written by its own container's monitor and by nobody else, so no lock is needed; it goes with the container, or
with the sweep after a monitor that was killed. The resolvers of all containers on the network read them (`dns`).
"""

import os

from sampan.document import Malformed, parse, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.network.endpoint import Endpoint

RESOLVER = "127.0.0.11"  # where a container asks; docker's address
MOST_RECORDS = 4096
_FILE_BYTES = 64 * 1024
_WORD_BYTES = 1 << 20


def directory(run: str, network_id: str) -> str:
    """Return where the containers on a network tell their names."""
    return f"{run}/networks/{network_id}"


def publish(run: str, endpoint: "Endpoint") -> None:
    """Tell the endpoint's names; atomic, so that no reader sees a part."""
    place = directory(run, endpoint.network_id)
    os.makedirs(place, 0o700, exist_ok=True)
    fresh = f"{place}/.{endpoint.container_id}"
    with open(fresh, "wb") as file:
        file.write(render({"address": endpoint.address, "names": list(endpoint.names)}).encode())
    os.rename(fresh, f"{place}/{endpoint.container_id}")


def withdraw(run: str, network_id: str, container_id: str) -> None:
    """Take the names back. Idempotent."""
    place = directory(run, network_id)
    for name in (container_id, f".{container_id}"):
        try:
            os.unlink(f"{place}/{name}")
        except FileNotFoundError:
            pass


def forget(run: str, network_id: str) -> None:
    """Remove all that was told on a network that is removed. Idempotent."""
    place = directory(run, network_id)
    try:
        for name in os.listdir(place):
            os.unlink(f"{place}/{name}")
        os.rmdir(place)
    except FileNotFoundError:
        pass


def networks_in(word: str, run: str) -> list[tuple[str, str]]:
    """Return directory and name of each network that the resolver looks on, as a container's network.json has them.

    Raises OSError, ValueError, KeyError.
    """
    with open(word, "rb") as file:
        told = parse(file.read(_WORD_BYTES).decode())
    return [(directory(run, id), name) for id, name in (told["dns"] or {"networks": ()})["networks"]]


def read(place: str) -> list[tuple[str, list[str]]]:
    """Return (address, names) of the containers that tell theirs in `place`, the first MOST_RECORDS of them."""
    found = []
    for name in sorted(os.listdir(place))[:MOST_RECORDS]:
        if name.startswith("."):
            continue
        try:
            with open(f"{place}/{name}", "rb") as file:
                told = parse(file.read(_FILE_BYTES).decode())
            found.append((told["address"], told["names"]))
        except (OSError, UnicodeDecodeError, Malformed, KeyError):
            continue  # it has just gone
    return found
