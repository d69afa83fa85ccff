"""Who waits for whom: circles, and what comes along with a service. Pure."""

from collections.abc import Iterable, Mapping

from sampan.compose.model.project import Service
from sampan.errors import InvalidArgument


def check(services: Mapping[str, Service]) -> None:
    """Raise InvalidArgument where services wait for each other in a circle; it names the way around."""
    done: set[str] = set()
    for start in services:
        # Depth first without recursion: a text may hold a long chain.
        path: list[str] = [start]
        waiting = [_known(services, start)]
        while waiting:
            if waiting[-1] and path[-1] not in done:
                name = waiting[-1].pop(0)
                if name in path:
                    circle = " -> ".join([*path[path.index(name) :], name])
                    raise InvalidArgument(
                        f"services wait for each other in a circle: {circle}",
                        at=services[path[-1]].place("depends_on"),
                        hints=(f"one of them has to start first: take `{name}` out of this `depends_on`",),
                    )
                path.append(name)
                waiting.append(_known(services, name))
            else:
                done.add(path.pop())
                waiting.pop()


def _known(services: Mapping[str, Service], name: str) -> list[str]:
    return [other for other in services[name].dependencies if other in services]


def with_dependencies(services: Mapping[str, Service], names: Iterable[str]) -> list[str]:
    """Return these services and all that they wait for, what is waited for first."""
    found: dict[str, None] = {}
    waiting = [(name, False) for name in reversed(list(names))]
    while waiting:
        name, is_entered = waiting.pop()
        if name in found:
            continue
        if is_entered:
            found[name] = None
            continue
        waiting.append((name, True))
        waiting += [(other, False) for other in reversed(_known(services, name))]
    return list(found)


def dependents(services: Mapping[str, Service], name: str) -> list[str]:
    """Return the services that wait for `name`."""
    return [other.name for other in services.values() if name in other.dependencies]
