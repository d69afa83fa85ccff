"""What a holder and those who look for it agree on: its record, its lock and its socket in SAMPAN_RUN. Hot path."""

import os

from sampan.document import Malformed, parse, render
from sampan.identity import boot_id, stat_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.document import Document
    from sampan.settings.configuration import Settings

    # Given the holder's process id, gives its network a way out: the helper's process id or 0, and what is missing.
    # The helper is a program: whatever is forked and goes on without execve keeps the lock of the start.
    Attach = Callable[[int], tuple[int, str]]

VERSION = 1
_RECORD_BYTES = 1 << 16


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks after boot; 0 where it is gone. proc_pid_stat(5)."""
    try:
        return stat_of(pid)[1]
    except OSError:
        return 0


def lock_path(settings: "Settings") -> str:
    """Return the path of the lock under which a holder is looked for, started and ended."""
    return f"{settings.run}/holder.lock"


def write_record(settings: "Settings") -> None:
    """Say that the calling process is the holder; visible to others at once, whole."""
    record = {"version": VERSION, "pid": os.getpid(), "start_time": start_time(os.getpid()), "boot_id": boot_id()}
    path = f"{settings.run}/holder.json"
    file = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, render(record).encode())
        os.rename(f"{path}.new", path)
    except OSError:
        os.unlink(f"{path}.new")
        raise
    finally:
        os.close(file)


def in_directory(directory: str, action: "Callable[[], None]") -> None:
    """Do something with a relative name there: a unix socket's address has 108 bytes, a path may have more."""
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(directory)
        action()
    finally:
        os.fchdir(before)
        os.close(before)


def read_record(settings: "Settings") -> "Document | None":
    """Return what the holder of this boot wrote, or None; whether it lives is another question."""
    try:
        with open(f"{settings.run}/holder.json", encoding="utf-8") as file:
            record = parse(file.read(_RECORD_BYTES))
    except (OSError, Malformed):
        return None
    return record if record.get("boot_id") == boot_id() and record.get("version") == VERSION else None
