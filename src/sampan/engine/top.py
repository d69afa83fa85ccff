"""docker top: the processes of a running container, as the host's ps(1) would show them.

Docker starts the host's `ps` and keeps the lines of the container's processes. Here they are read from /proc(5), as
many as are in the container's cgroup, so no program is needed, and no process but the container's is looked at.

Formats are ps(1)'s: `-f` (docker's default), `aux`, and `-o` with a list. PID and PPID are the host's, as with docker.
Users are the container's own, since each has a user namespace: 0 is `root`, all others are numbers.
"""

import os
import time

from sampan.engine import running
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.settings.configuration import Settings

PROCESSES_AT_MOST = 10_000
COMMAND_BYTES = 4096
STATUS_BYTES = 1 << 20  # every group of a process is in it
_FULL = ("uid", "pid", "ppid", "c", "stime", "tty", "time", "cmd")
_BSD = ("user", "pid", "%cpu", "%mem", "vsz", "rss", "tty", "stat", "start", "bsdtime", "command")
# What ps takes for "all processes, in this form": which processes is not a question here.
_FORMS = {
    "-ef": _FULL, "-f": _FULL, "-eF": _FULL, "-Af": _FULL, "-fe": _FULL,
    "aux": _BSD, "-aux": _BSD, "u": _BSD, "axu": _BSD,
    "-e": ("pid", "tty", "time", "comm"), "-A": ("pid", "tty", "time", "comm"),
    "ax": ("pid", "tty", "stat", "bsdtime", "command"),
}  # fmt: skip
_EVERY = ("-e", "-A", "-a", "-x", "ax")
_HINT = "there are `-ef` (which it is without), `aux`, and `-o pid,user,cmd` with the columns that you want"


class Process:
    """What /proc says of one process; times in seconds, sizes in KiB."""

    __slots__ = ("age", "command", "cpu", "fields", "name", "pid", "status", "total_kib", "user")

    def __init__(self, pid: int, uptime: float, total_kib: int, mappings: "list[tuple[int, int, int]]") -> None:
        text = _read(f"/proc/{pid}/stat")
        # The name may hold blanks and brackets: stat is what follows its last one (proc_pid_stat(5)).
        self.pid = pid
        self.name = text[text.index("(") + 1 : text.rindex(")")]
        self.fields = text[text.rindex(")") + 2 :].split()
        self.status = dict(
            line.split(":", 1) for line in _read(f"/proc/{pid}/status", STATUS_BYTES).splitlines() if ":" in line
        )
        words = _read(f"/proc/{pid}/cmdline").rstrip("\0").replace("\0", " ")
        self.command = words or f"[{self.name}]"
        ticks = os.sysconf("SC_CLK_TCK")
        self.cpu = (int(self.fields[11]) + int(self.fields[12])) / ticks
        self.age = max(0.0, uptime - int(self.fields[19]) / ticks)
        self.total_kib = total_kib
        self.user = _inside(int(self.status["Uid"].split()[1]), mappings)

    @property
    def share(self) -> float:
        """Return the per cent of one processor that it has used in its life."""
        return 100 * self.cpu / self.age if self.age >= 1 else 0.0

    def kib(self, name: str) -> int:
        """Return a size of status; 0 for a process without memory."""
        return int(self.status.get(name, "0").split()[0])


def top(settings: "Settings", name: str, options: tuple[str, ...] = ()) -> tuple[list[str], list[list[str]], int]:
    """Return titles, a row for each process, and how many more there are than PROCESSES_AT_MOST.

    Raises NotFound, Conflict (it does not run), InvalidArgument for options that are not one of the module's forms.
    """
    columns = parse(options)
    one = running.find(settings, name)
    mappings = [(m["containerID"], m["hostID"], m["size"]) for m in one.told.uid_mappings]
    pids = sorted(running.processes(one.told))
    uptime, total = float(_read("/proc/uptime").split()[0]), int(_read("/proc/meminfo").split()[1])
    found = []
    for pid in pids[:PROCESSES_AT_MOST]:
        try:
            found.append(Process(pid, uptime, total, mappings))
        except (FileNotFoundError, ProcessLookupError, ValueError):
            continue  # it has just ended
    # SECURITY: a number that was given to somebody else meanwhile is not the container's.
    still = set(running.processes(one.told))
    rows = [[COLUMNS[c][1](p) for c in columns] for p in found if p.pid in still]
    return [COLUMNS[c][0] for c in columns], rows, max(0, len(pids) - PROCESSES_AT_MOST)


def parse(options: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns that ps's `options` ask for; raises InvalidArgument."""
    words = [word for option in options for word in option.split() if word]
    columns: list[str] = []
    form: tuple[str, ...] = ()
    while words:
        word = words.pop(0)
        if word in _FORMS or word in _EVERY:
            # `-e` beside `-f` or `-o` says which processes only.
            form = _FULL if "-f" in (word, *words) else form or _FORMS.get(word, ())
        elif word.startswith(("-o", "-eo", "-Ao")) or word == "o":
            value = word.removeprefix("o") if word == "o" else word[word.index("o") + 1 :]
            value = value or (words.pop(0) if words else "")
            columns += _columns(value)
        else:
            raise InvalidArgument(f"`{word}` is no option of ps that is known here", hints=(_HINT,))
    chosen = tuple(columns) or form or _FULL
    if "pid" not in chosen:
        raise InvalidArgument("the columns have no `pid`", hints=("add it, as docker wants: `-o pid,cmd`",))
    return chosen


def _columns(text: str) -> list[str]:
    """Return the columns of one `-o`."""
    names = [name.lower() for name in text.split(",") if name]
    for name in names:
        if name not in COLUMNS:
            raise InvalidArgument(
                f"`{name}` is no column that is known here", hints=(f"columns: {', '.join(COLUMNS)}",)
            )
    if not names:
        raise InvalidArgument("`-o` needs a list of columns", hints=(f"columns: {', '.join(COLUMNS)}",))
    return names


def _inside(uid: int, mappings: "list[tuple[int, int, int]]") -> str:
    """Return a host's user id as the container knows it."""
    for inside, outside, size in mappings:
        if outside <= uid < outside + size:
            uid = uid - outside + inside
            break
    return "root" if uid == 0 else str(uid)


def _read(path: str, limit_bytes: int = COMMAND_BYTES) -> str:
    with open(path, "rb", buffering=0) as file:
        return file.read(limit_bytes).decode("utf-8", "replace")


def _stime(process: Process) -> str:
    moment = time.clock_gettime(time.CLOCK_REALTIME)
    now, began = time.localtime(moment), time.localtime(moment - process.age)
    if began[:3] == now[:3]:
        return time.strftime("%H:%M", began)
    return time.strftime("%b%d" if began[0] == now[0] else "%Y", began)


def _tty(process: Process) -> str:
    """Return the terminal by its device number; proc_pid_stat(5)."""
    number = int(process.fields[4])
    major, minor = number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00
    if not number:
        return "?"
    return f"pts/{minor + (major - 136) * 256}" if 136 <= major < 144 else f"tty{minor}" if major == 4 else "?"


def _clock(seconds: float) -> str:
    """Print `[DD-]HH:MM:SS`."""
    whole = int(seconds)
    days = f"{whole // 86400}-" if whole >= 86400 else ""
    return f"{days}{whole // 3600 % 24:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def _etime(process: Process) -> str:
    whole = int(process.age)
    return _clock(whole) if whole >= 3600 else f"{whole // 60:02}:{whole % 60:02}"


def _bsd_time(process: Process) -> str:
    return f"{int(process.cpu) // 60}:{int(process.cpu) % 60:02}"


def _flags(process: Process) -> str:
    """Return the state letter with ps's marks: nice, leader, threads, foreground."""
    fields = process.fields
    nice = int(fields[16])
    marks = "<" if nice < 0 else "N" if nice > 0 else ""
    marks += "s" if int(fields[3]) == process.pid else ""
    marks += "l" if int(fields[17]) > 1 else ""
    marks += "+" if fields[5] == fields[2] else ""
    return fields[0] + marks


# Name of `-o` -> its title, and what it shows.
COLUMNS: "dict[str, tuple[str, Callable[[Process], str]]]" = {
    "uid": ("UID", lambda p: p.user),
    "user": ("USER", lambda p: p.user),
    "pid": ("PID", lambda p: str(p.pid)),
    "ppid": ("PPID", lambda p: p.fields[1]),
    "pgid": ("PGID", lambda p: p.fields[2]),
    "sid": ("SID", lambda p: p.fields[3]),
    "c": ("C", lambda p: str(min(99, int(p.share)))),
    "%cpu": ("%CPU", lambda p: f"{p.share:.1f}"),
    "pcpu": ("%CPU", lambda p: f"{p.share:.1f}"),
    "%mem": ("%MEM", lambda p: f"{100 * p.kib('VmRSS') / p.total_kib:.1f}"),
    "pmem": ("%MEM", lambda p: f"{100 * p.kib('VmRSS') / p.total_kib:.1f}"),
    "vsz": ("VSZ", lambda p: str(p.kib("VmSize"))),
    "rss": ("RSS", lambda p: str(p.kib("VmRSS"))),
    "tty": ("TTY", _tty),
    "stat": ("STAT", _flags),
    "s": ("S", lambda p: p.fields[0]),
    "ni": ("NI", lambda p: p.fields[16]),
    "nlwp": ("NLWP", lambda p: p.fields[17]),
    "stime": ("STIME", _stime),
    "start": ("START", _stime),
    "etime": ("ELAPSED", _etime),
    "time": ("TIME", lambda p: _clock(p.cpu)),
    "bsdtime": ("TIME", _bsd_time),
    "comm": ("COMMAND", lambda p: p.name),
    "cmd": ("CMD", lambda p: p.command),
    "args": ("COMMAND", lambda p: p.command),
    "command": ("COMMAND", lambda p: p.command),
}
