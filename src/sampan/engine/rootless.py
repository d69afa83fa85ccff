"""A normal user's commands: they go into the holder's namespaces first, and are uid 0 in there. Hot path.

Theory. `runtime.holder` says who owns what. A command `enter`s as soon as it touches containers, while it has one
thread: the user and mount namespaces only, so it still has the machine's network. Its monitor inherits that, `keep`s
the holder alive for its own life, binds the published ports where the machine's network is, and then goes on into the
holder's network, where the bridge is and from where a forwarder (`network.forward`) reaches the container.

Whoever has threads cannot enter: it spawns its monitors, which do (`launch`). For root nothing of this happens.
"""

import os

from sampan.errors import Internal, SampanError, Unsupported
from sampan.events import Event, ignore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.events import Sink
    from sampan.runtime.holder import Holder
    from sampan.settings.configuration import Settings

_TOLD_BYTES = 4096  # a pipe holds more
# Holders that this process has entered or keeps: the connections in them keep the holder alive.
_kept: "list[Holder]" = []


def enter(settings: "Settings", sink: "Sink" = ignore) -> None:
    """Be in the namespaces where this user's containers are; nothing happens for root, and the second time.

    Where the holder begins its life, `sink` is told, as warnings, what this machine lacks for a normal user. Raises
    Unsupported where there can be no namespaces.
    """
    if settings.uid == 0 or _kept:
        return
    from sampan.runtime import holder

    def attach(pid: int) -> tuple[int, str]:
        from sampan.network import rootless as way_out  # only where the holder is new

        return way_out.attach(pid, settings)

    if len(os.listdir("/proc/self/task")) > 1:
        raise Unsupported("a process with several threads cannot enter a normal user's namespaces")
    found = holder.ensure(settings, attach=attach)
    for text in found.warnings:
        sink(Event("warning", "rootless", text))
    found.join()
    _kept.append(found)


def keep(settings: "Settings") -> None:
    """Keep the holder alive by a connection of our own, in a process that was forked off one that has entered."""
    if settings.uid == 0:
        return
    from sampan.runtime import holder

    found = holder.find(settings)
    if found is None:
        raise Unsupported("the holder of this user's namespaces has ended", hints=("try again",))
    # What the fork left us are numbers of descriptors that it closed.
    for inherited in _kept:
        inherited.connection.detach()
    _kept[:] = [found]


def enter_network() -> None:
    """Go on into the holder's network namespace, for good; after `keep`."""
    if not _kept:
        raise Internal("no holder is kept")
    _kept[-1].enter_network()


def in_network(work: "Callable[[], None]") -> None:
    """Do something in the holder's network namespace, from where there is no way back: in a child.

    Raises what went wrong there, by its words.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        said = ""
        try:
            enter_network()
            work()
        except BaseException as error:  # noqa: BLE001 - a process boundary
            said = getattr(error, "what", "") or str(error) or type(error).__name__
        finally:
            os.write(writing, said.encode("utf-8", "replace")[:_TOLD_BYTES])
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        said = file.read().decode("utf-8", "replace")
    os.waitpid(pid, 0)
    if said:
        raise SampanError(said)


def descriptors() -> list[int]:
    """Return the descriptors that keep the holder alive, which must outlive an execve."""
    return [holder.connection.fileno() for holder in _kept]
