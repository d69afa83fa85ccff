"""`sampan compose up` without -d: the output of all containers, until they end or the person has had enough.

The first Ctrl-C (or SIGTERM) stops all, the second kills them; meanwhile their last words are still shown. A container
that ends may end the rest (`--abort-on-container-exit`, `--exit-code-from`).
"""

import select
import signal
import time

from sampan.cli import render
from sampan.cli.compose.output import Output
from sampan.compose import sight, teardown, wish
from sampan.compose.follow import Follower
from sampan.engine import nursery, state, terminal
from sampan.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.cli.compose.work import Work
    from sampan.cli.flags import Parsed
    from sampan.compose.model.project import Service
    from sampan.compose.sight import Seen
    from sampan.settings.configuration import Settings

INTERRUPTED = 130


class Enough(Exception):
    """A signal asked for the end."""


class Foreground:
    """A `crew.Watch`: the output of what runs, and the person's signals."""

    def __init__(self, settings: "Settings", output: Output, shown: set[str], signals: terminal.Signals) -> None:
        self._settings = settings
        self._output = output
        self._shown = shown
        self._signals = signals
        # Labels of containers that ended, with their statuses, in order.
        self.ended: list[tuple[str, int]] = []
        since = state.timestamp(time.time_ns())
        self.follower = Follower(settings, output.show, self._on_end, since)
        self._services: dict[str, str] = {}

    def on_started(self, service: str, containers: object) -> None:
        """Follow a service's containers from now on (`crew.Crew.on_done`)."""
        for name in containers if isinstance(containers, list) else ():
            label = self._output.label(name)
            self._services[label] = service
            if service not in self._shown:
                continue
            try:
                self.follower.add(state_id(self._settings, name), label)
            except NotFound:
                continue  # it has ended, and somebody removed it

    def service_of(self, label: str) -> str:
        """Return whose container a label means."""
        return self._services.get(label, "")

    def descriptors(self) -> list[int]:
        """Return what to wait for."""
        return [self._signals.fd, *self.follower.descriptors()]

    def serve(self, ready: set[int]) -> None:
        """Show what there is; raises Enough after a signal."""
        self.follower.serve(ready)
        if self._signals.fd in ready and self._signals.pending():
            raise Enough

    def run(self, until: "Callable[[], bool]") -> None:
        """Show until `until` says so, or all have ended."""
        while not self.follower.is_done and not until():
            poll = select.poll()
            for fd in self.descriptors():
                poll.register(fd, select.POLLIN)
            self.serve({fd for fd, _ in poll.poll()})

    def _on_end(self, label: str, status: int) -> None:
        self.ended.append((label, status))
        self._output.note(label, f"exited with code {status}")


def state_id(settings: "Settings", name: str) -> str:
    """Return a container's id."""
    from sampan.engine import record

    return record.find(settings, name).id


def up(work: "Work", services: "list[Service]", images: dict[str, str]) -> int:
    """Start, show, and stop at the end; return the status that docker compose returns."""
    parsed, settings, printer = work.parsed, work.settings, work.printer
    output = Output(printer, parsed, work.project.name)
    for service in services:
        for number in range(1, work.scale_of(service) + 1):
            output.label(wish.container_name(work.project, service, number))
    shown = _shown(parsed, services)
    source = parsed.text("exit-code-from")
    with terminal.Signals((signal.SIGINT, signal.SIGTERM)) as signals:
        front = Foreground(settings, output, shown, signals)

        def is_over() -> bool:
            if parsed.is_set("abort-on-container-failure"):
                return any(status for _, status in front.ended)
            ends = parsed.is_set("abort-on-container-exit") or bool(source)
            return ends and bool(front.ended)

        try:
            work.converge(services, images, front)
            nursery.close()  # nothing else is started
            printer.note(f"Attaching to {', '.join(sorted(output.labels))}")
            front.run(is_over)
            if not is_over():
                return 0
            _stop(work, services, front)
        except Enough:
            printer.note("Gracefully stopping... (press Ctrl+C again to force)")
            try:
                _stop(work, services, front)
            except Enough:
                _kill(work, services)
            return INTERRUPTED
        except render.OutputGone:
            _kill(work, services)
            raise
    return _status(front, source)


def _shown(parsed: "Parsed", services: "list[Service]") -> set[str]:
    """Return the services whose output is shown."""
    only, without = parsed.words("attach"), parsed.words("no-attach")
    found = {service.name for service in services if service.values.get("attach", True)}
    return (found & set(only) if only else found) - set(without)


def _status(front: Foreground, source: str) -> int:
    """Return the status of the service that was named, else of the first that ended."""
    for label, status in front.ended:
        if not source or front.service_of(label) == source:
            return status
    return 0


def _own(work: "Work", services: "list[Service]") -> "list[Seen]":
    names = {service.name for service in services}
    seen = sight.containers(work.settings, work.project.name)
    return [one for one in seen if one.service in names and not one.is_one_off]


def _stop(work: "Work", services: "list[Service]", front: Foreground) -> None:
    seen = [one for one in _own(work, services) if one.is_running]
    act = teardown.stop(work.settings, work.choice.timeout_seconds)
    teardown.each(work.project.services, seen, act, work.say, parallel=work.choice.parallel, watch=front)
    front.run(lambda: False)


def _kill(work: "Work", services: "list[Service]") -> None:
    teardown.each({}, _own(work, services), teardown.kill(work.settings, "KILL"), work.say)
