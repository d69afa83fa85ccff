"""The journal of SAMPAN_ROOT, its writing end: whoever does something says so in a line. Hot path.

    events.log, events.log.1    {"action":…,"attributes":{…},"id":…,"time_ns":…,"type":…}, the latter but for containers

One write(2) with O_APPEND for what happened at once, so lines of several processes do not mix. A file that has grown to
JOURNAL_BYTES is put away in the place of the one before, under a lock on it. `engine.journal` reads them.
"""

import fcntl
import os
import time

from sampan.document import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.document import Document

    # What kind of thing it happened to, docker's Action, the thing's id, docker's Actor.Attributes.
    Happened = tuple[str, str, str, "Document"]

CONTAINER, IMAGE, NETWORK, VOLUME = "container", "image", "network", "volume"
JOURNAL_BYTES = 1024 * 1024  # of the file that is written to; the one before it is kept
EVENT_BYTES = 16 * 1024


def note(root: str, action: str, id: str, attributes: "Document", kind: str = CONTAINER) -> None:
    """Append one event to the journal of `root`; see `note_all`."""
    note_all(root, ((kind, action, id, attributes),))


def note_all(root: str, events: "Sequence[Happened]") -> None:
    """Append events, in their order, in one write.

    Never an error, and not synced: what happened does not wait for who may want to know of it.
    """
    now = time.time_ns()
    if not events:
        return
    lines = b"".join(_line(now + number, *event) for number, event in enumerate(events))
    path = f"{root}/events.log"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, lines)
            if os.fstat(fd).st_size > JOURNAL_BYTES:
                # Whoever has the lock on this file, and finds it in its place still, is the one to put it away.
                fcntl.flock(fd, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    os.rename(path, f"{path}.1")
        finally:
            os.close(fd)
    except OSError:
        return


def _line(time_ns: int, kind: str, action: str, id: str, attributes: "Document") -> bytes:
    event = {"time_ns": time_ns, "action": action, "id": id} | ({} if kind == CONTAINER else {"type": kind})
    line = render(event | {"attributes": attributes}).encode() + b"\n"
    if len(line) > EVENT_BYTES:
        short = {name: value for name, value in attributes.items() if len(str(value)) < 256}
        event["action"] = action[:1024]
        line = render(event | {"attributes": dict(list(short.items())[:32])}).encode() + b"\n"
    return line
