"""`sampan run PATH`: build the project there, start it, print its URL, and end it with Ctrl-C.

Theory: the image is named by its id, so two projects, or two builds of one, cannot run each other's. In the foreground
the container is removed at its end. Ctrl-C and SIGTERM are not passed on but mean "enough": the container is asked to
stop, killed after a second, and removed. The URL is printed by a second thread once the port answers, since
the first is copying output by then.
"""

import _thread
import select
import socket
import time

from sampan.build import builder
from sampan.cli import cidfile, render, request, terminal
from sampan.cli.build import directory_of
from sampan.cli.flags import Parsed
from sampan.cli.progress import Listener
from sampan.cli.render import OutputGone
from sampan.database import connection
from sampan.engine import container, inspection
from sampan.errors import AlreadyExists, NotFound, SampanError
from sampan.frozen import replace
from sampan.network.endpoint import PortMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.engine.container import Started
    from sampan.engine.run_options import RunOptions
    from sampan.settings.configuration import Settings

LOCALHOST = "127.0.0.1"
# How long to look for an answer on the port, how often, and how long a connection must stand to count as one.
ANSWER_SECONDS, TRY_SECONDS, STAND_SECONDS = 60.0, 0.05, 0.05
# A detached run says its URL once it answers, or after this says it anyway.
DETACHED_SECONDS = 10.0
STOP_SECONDS = 1


def start(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Build and run; return the status of the application, or of the signal that ended it."""
    directory = directory_of(parsed.arguments[0])
    # What is wrong in the flags shows before the build.
    first = request.options(parsed, settings, directory)
    if not first.detach:
        terminal.check(tty=first.tty, interactive=first.interactive)
    request.ensure_init(first, parsed, settings, printer)
    with Listener(printer, quiet=parsed.is_set("quiet")) as sink, connection.open(settings) as database:
        no_cache = parsed.is_set("no-cache")
        result = builder.build(settings, database, directory, no_cache=no_cache, sink=sink)
    wanted = _options(parsed, settings, result.image_id, result.port)
    with _started(parsed, settings, wanted) as started:
        try:
            return _accompany(started, parsed, settings, printer, wanted=wanted, port=result.port)
        except (KeyboardInterrupt, OutputGone):
            # What nobody sits in front of any more shall not go on unseen.
            if not wanted.detach:
                _end(settings, started.container.id)
            raise


def _accompany(
    started: "Started",
    parsed: Parsed,
    settings: "Settings",
    printer: "Printer",
    *,
    wanted: "RunOptions",
    port: int | None,
) -> int:
    """Say what runs where; in the foreground, copy its output until it ends."""
    identity = started.container.id
    cidfile.write(parsed, identity)
    if wanted.detach:
        printer.out(identity)
    addresses = _addresses(settings, identity, wanted, port)
    if wanted.detach:
        _announce_detached(addresses, identity, settings, printer)
        return 0
    if addresses and not wanted.tty:
        _thread.start_new_thread(_announce, (addresses, printer))
    return terminal.relay(
        started.client, parsed, settings, stdin=wanted.interactive, tty=wanted.tty, signal_proxy=False
    )


def _options(parsed: Parsed, settings: "Settings", image: str, port: int | None) -> "RunOptions":
    """Return what the flags ask for; else the project's port is published, on this machine only."""
    wanted = request.options(parsed, settings, image)
    if port and not wanted.ports and not wanted.publish_all and wanted.network_mode == "bridge":
        wanted = replace(wanted, ports=(PortMapping(port, host_port=port, host_ip=LOCALHOST),))
    return wanted if wanted.detach else replace(wanted, auto_remove=True)


def _started(parsed: Parsed, settings: "Settings", wanted: "RunOptions") -> "Started":
    """Start; where the project's port is taken, say how to choose another."""
    cidfile.refuse(parsed)
    try:
        return container.run(settings, wanted, window=terminal.window() if wanted.tty else None)
    except AlreadyExists as error:
        if parsed.words("publish") or not wanted.ports:
            raise
        port = wanted.ports[0].container_port
        hint = f"`sampan run -p {LOCALHOST}:{port + 1}:{port} {parsed.arguments[0]}` publishes it on another port"
        raise AlreadyExists(error.what, hints=(hint,), at=error.at) from error.__cause__


def _end(settings: "Settings", identity: str) -> None:
    """Stop the container within a second; its monitor removes it."""
    try:
        container.stop(settings, identity, STOP_SECONDS)
    except NotFound:
        pass  # it ended by itself and is removed already


def _addresses(settings: "Settings", identity: str, wanted: "RunOptions", port: int | None) -> list[tuple[str, int]]:
    """Return where the application can be reached from this machine."""
    if wanted.network_mode == "host":
        return [(LOCALHOST, port)] if port else []
    if not wanted.ports and not wanted.publish_all:
        return []
    try:
        ports = inspection.inspect(settings, identity)["NetworkSettings"]["Ports"]
    except NotFound:
        return []  # it has ended already, and --rm removed it
    bound = [binding for inside, outside in ports.items() if inside.endswith("/tcp") for binding in outside or ()]
    return [(_reachable(binding["HostIp"]), int(binding["HostPort"])) for binding in bound]


def _reachable(address: str) -> str:
    """Return the address to dial for one that is listened on."""
    return LOCALHOST if address in {"", "0.0.0.0", "::"} else address  # noqa: S104  compared, not bound


def _announce(addresses: list[tuple[str, int]], printer: "Printer") -> None:
    """Print each URL once it answers (in a thread of its own)."""
    deadline = time.monotonic() + ANSWER_SECONDS
    for address, port in addresses:
        while not (answered := _answers(address, port)) and time.monotonic() < deadline:
            time.sleep(TRY_SECONDS)
        _tell(address, port, printer, answered=answered, more=" (Ctrl-C stops it)")


def _announce_detached(
    addresses: list[tuple[str, int]], identity: str, settings: "Settings", printer: "Printer"
) -> None:
    """Print each URL once it answers, or after a while; raises SampanError where the application has ended."""
    deadline = time.monotonic() + DETACHED_SECONDS
    for address, port in addresses:
        while not (answered := _answers(address, port)) and time.monotonic() < deadline:
            if not _is_running(settings, identity):
                hints = (f"`sampan logs {identity[:12]}` shows what it said",)
                raise SampanError("the application ended before it answered", hints=hints)
            time.sleep(TRY_SECONDS)
        _tell(address, port, printer, answered=answered)


def _tell(address: str, port: int, printer: "Printer", *, answered: bool, more: str = "") -> None:
    """Print a URL."""
    url = printer.paint(f"http://{address}:{port}", render.BOLD)
    printer.note(f"running at {url}{more}" if answered else f"nothing answers at {url} yet")


def _is_running(settings: "Settings", identity: str) -> bool:
    try:
        return bool(inspection.inspect(settings, identity)["State"]["Running"])
    except NotFound:
        return False  # it ended, and --rm removed it


def _answers(address: str, port: int) -> bool:
    """Return whether somebody takes a connection and keeps it: a forwarder closes it while nobody listens inside."""
    try:
        with socket.create_connection((address, port), timeout=1.0) as peer:
            readable, _, _ = select.select([peer], [], [], STAND_SECONDS)
            return not readable or bool(peer.recv(1, socket.MSG_PEEK))
    except OSError:
        return False
