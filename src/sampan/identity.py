"""Which process: a pid with what tells it from every other that had or will have that number. Hot path."""


def boot_id() -> str:
    """Return the random name of this boot of the machine (random(4))."""
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
        return file.read().strip()


def stat_of(pid: int) -> tuple[str, int]:
    """Return a process's state letter and its start, in clock ticks after boot (proc_pid_stat(5)).

    Raises FileNotFoundError or ProcessLookupError where there is no such process.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:
        # The command's name, in parentheses, may itself hold anything: fields count from its end.
        fields = file.read().rpartition(b")")[2].split()
    return fields[0].decode(), int(fields[19])
