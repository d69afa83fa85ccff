"""The unit of systemd's that applies restart policies when the machine comes up, and stops containers before it goes.

Theory. One unit a user: the system's for root, the user manager's for anybody else, whose manager runs at boot only if
he lingers. It is a oneshot that remains, so that its end is the time for `boot stop`. Containers' monitors leave its
group for the scope (`runtime.delegation`), which is ordered before it, hence ended after it: until then the monitors
live. Where there is no such scope, on cgroup v1, monitors stay in its group, and KillMode=process lets them be.

What a unit says of its store stands in a section whose name systemd passes over, so that nobody takes a unit away that
is another store's or another program's.
"""

import os

from sampan.engine import state
from sampan.errors import Conflict, InvalidArgument, Unavailable, Unsupported
from sampan.runtime import delegation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.settings.configuration import Settings

NAME = delegation.SERVICE
_SECTION = "[X-Sampan]"
_UNIT_BYTES = 1 << 16
_SYSTEMCTL_SECONDS = 60.0
# What the places of a store and its settings depend on, taken into the unit as they hold for who enables it; systemd
# gives the system's services no HOME.
_VARIABLES = ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
# Networks are made after what would flush their rules, and where the machine's own network is.
_AFTER = "network-online.target nss-lookup.target firewalld.service nftables.service ufw.service docker.service"
_BY_HAND = "have this machine's own init call `sampan boot start` when it comes up, `sampan boot stop` before it goes"


class Unit:
    """The unit of this user: where it stands, and what stands in it; `root` is "" where there is none."""

    __slots__ = ("path", "program", "root")

    def __init__(self, path: str, root: str, program: str) -> None:
        self.path = path
        # The store that it is about, and the program that it runs.
        self.root = root
        self.program = program


def path(settings: "Settings") -> str:
    """Return where the unit's file stands, or would."""
    if settings.uid == 0:
        return f"/etc/systemd/system/{NAME}"
    home = settings.environment.get("HOME") or "/"
    return f"{settings.environment.get('XDG_CONFIG_HOME') or f'{home}/.config'}/systemd/user/{NAME}"


def find(settings: "Settings") -> Unit | None:
    """Return the unit that stands; None where there is none. Raises Conflict for a file that is not ours."""
    where = path(settings)
    try:
        with open(where, encoding="utf-8", errors="replace") as file:
            head, section, told = file.read(_UNIT_BYTES).partition(f"{_SECTION}\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    facts = dict(line.partition("=")[::2] for line in told.splitlines())
    if not section or not head or "Root" not in facts:
        raise Conflict(f"`{where}` is not Sampan's", hints=("call it otherwise, or remove it",))
    return Unit(where, facts["Root"], facts.get("Program", ""))


def text(settings: "Settings", argv: tuple[str, ...], *, is_stopping: bool = True) -> str:
    """Return the unit that has the program `argv` start and stop this store's containers.

    One that is not `is_stopping` may be stopped without harm to what runs. systemd.unit(5), systemd.service(5).
    """
    is_root = settings.uid == 0
    root = os.path.abspath(settings.root)
    command = " ".join(_quoted(word, is_command=True) for word in argv)
    variables = {
        name: value
        for name, value in sorted(settings.environment.items())
        if value and (name in _VARIABLES or (name.startswith("SAMPAN_") and name != "SAMPAN_FAULT"))
    }
    lines = [
        "# Made by `sampan boot enable`; `sampan boot disable` takes it away.",
        "[Unit]",
        "Description=Containers of Sampan, by their restart policies",
        *([f"Wants=network-online.target\nAfter={_AFTER}"] if is_root else []),
        *([f"RequiresMountsFor={_quoted(root)}"] if is_root else []),
        "[Service]",
        "Type=oneshot",
        "RemainAfterExit=yes",
        "KillMode=process",
        "TimeoutStopSec=infinity",
        *[f"Environment={_quoted(f'{name}={value}')}" for name, value in variables.items()],
        f"ExecStart={command} boot start",
        *([f"ExecStop={command} boot stop"] if is_stopping else []),
        "[Install]",
        f"WantedBy={'multi-user' if is_root else 'default'}.target",
        _SECTION,
        f"Root={root}",
        f"Program={argv[0]}",
    ]
    return "\n".join(lines) + "\n"


def enable(settings: "Settings", argv: tuple[str, ...]) -> Unit:
    """Put the unit up, or anew, for the program `argv`, and have it be active: from now on a shutdown is orderly.

    The caller sees to it that nothing is started now (`boot.skip_next_start`). Raises Unsupported where no systemd
    runs, Unavailable where this user's cannot be reached, Conflict where the unit is another store's.
    """
    require(settings)
    found, where = find(settings), path(settings)
    if found is not None and found.root != os.path.abspath(settings.root):
        raise Conflict(
            f"`{where}` is there already, for the store `{found.root}`",
            hints=(f"`SAMPAN_ROOT={found.root} sampan boot disable` takes it away",),
        )
    content = text(settings, argv)
    # Before anything stands there: is there somebody to talk to?
    _systemctl(settings, "show-environment")
    try:
        _write(where, content)
        _systemctl(settings, "daemon-reload")
        _systemctl(settings, "enable", NAME)
        _systemctl(settings, "start", NAME)
    except BaseException:
        if found is None:
            _remove_files(where)
            _try_systemctl(settings, "daemon-reload")
        raise
    return Unit(where, os.path.abspath(settings.root), argv[0])


def disable(settings: "Settings") -> bool:
    """Take the unit away, without harm to what runs; tell whether there was one. Idempotent."""
    found = find(settings)
    if found is None:
        return False
    if is_booted() and _is_reachable(settings):
        _systemctl(settings, "disable", NAME)
        # One that is active is stopped, which must not be the containers' end.
        _write(found.path, text(settings, (found.program,), is_stopping=False))
        _systemctl(settings, "daemon-reload")
        _systemctl(settings, "stop", NAME)
        os.unlink(found.path)
        _systemctl(settings, "daemon-reload")
        _try_systemctl(settings, "reset-failed", NAME)
        return True
    _remove_files(found.path)
    return True


def activity(settings: "Settings") -> str:
    """Return systemd's word for what the unit is now: active, inactive, failed; "" where it cannot be asked."""
    return _try_systemctl(settings, "is-active", NAME) if is_booted() else ""


def is_booted() -> bool:
    """Tell whether systemd runs this machine. sd_booted(3)."""
    return os.path.isdir("/run/systemd/system")


def lingers(settings: "Settings") -> bool:
    """Tell whether this user's manager runs from boot on. loginctl(1)."""
    return settings.uid == 0 or os.path.exists(f"/var/lib/systemd/linger/{user_name(settings)}")


def user_name(settings: "Settings") -> str:
    """Return what this user is called."""
    import pwd

    try:
        return pwd.getpwuid(settings.uid).pw_name
    except KeyError:
        return str(settings.uid)


def require(settings: "Settings") -> None:
    """Raise Unsupported where there is no systemd, or no user manager."""
    if not is_booted():
        raise Unsupported("systemd does not run this machine, so no unit can start containers", hints=(_BY_HAND,))
    if not _is_reachable(settings):
        name = user_name(settings)
        raise Unavailable(
            f"`{name}` has no systemd of his own now",
            hints=(f"as root: `loginctl enable-linger {name}`", "or log in by ssh or at the console, not by `su`"),
        )


def _runtime_directory(settings: "Settings") -> str:
    return settings.environment.get("XDG_RUNTIME_DIR") or f"/run/user/{settings.uid}"


def _is_reachable(settings: "Settings") -> bool:
    return settings.uid == 0 or os.path.exists(f"{_runtime_directory(settings)}/systemd")


def _quoted(word: str, *, is_command: bool = False) -> str:
    """Quote a word as unit files want it; raises InvalidArgument. systemd.syntax(7)."""
    if any(ord(character) < 32 for character in word):
        raise InvalidArgument(f"`{word!r}` cannot stand in a unit of systemd's")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped.replace("$", "$$") if is_command else escaped}"'


def _write(where: str, content: str) -> None:
    os.makedirs(os.path.dirname(where), exist_ok=True)
    state.write_file(where, content.encode(), durable=True, mode=0o644)


def _systemctl(settings: "Settings", *words: str) -> None:
    """Have systemd do something; raises Unavailable with what it says."""
    status, said = _call(settings, words)
    if status != 0:
        scope = "" if settings.uid == 0 else "--user "
        raise Unavailable(
            f"`systemctl {scope}{' '.join(words)}` failed: {said or f'status {status}'}",
            hints=(f"`systemctl {scope}status {NAME}` says more",),
        )


def _try_systemctl(settings: "Settings", *words: str) -> str:
    return _call(settings, words)[1]


def _call(settings: "Settings", words: tuple[str, ...]) -> tuple[int, str]:
    from sampan.kernel import program

    environment = dict(settings.environment)
    if settings.uid != 0:
        environment["XDG_RUNTIME_DIR"] = _runtime_directory(settings)
    argv = [program.require("systemctl", environment.get("PATH")), *(() if settings.uid == 0 else ("--user",)), *words]
    done = program.run(argv, env=environment, timeout=_SYSTEMCTL_SECONDS)
    said = (done.stderr or done.stdout) if done.status else done.stdout
    return done.status, said.decode("utf-8", "replace").strip()


def _remove_files(where: str) -> None:
    """Remove the unit's file, and the links by which it is enabled, where there is no systemd to do it."""
    directory, name = os.path.split(where)
    for path in (f"{directory}/multi-user.target.wants/{name}", f"{directory}/default.target.wants/{name}", where):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
