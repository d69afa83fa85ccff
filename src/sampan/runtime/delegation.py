"""The delegated unit: under systemd, who makes groups outside a unit of its own is undone at the next reload.

Theory: all containers of a user live in one transient scope, `sampan.scope` (the system's for root, the user manager's
else), made with Delegate=yes around the first monitor. Its own group must hold no process before it may give its
children controllers, so every monitor moves on into the leaf `monitors`. Later monitors join: root writes
`cgroup.procs`; a normal user may not move a process out of its login session, so its systemd is asked, which asks PID 1
(org.freedesktop.systemd1 AttachProcessesToUnit). The scope ends with its last process; one that vanishes between
look-up and join is made again.
"""

import os
import time

from sampan.errors import Unavailable
from sampan.kernel import dbus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.settings.configuration import Settings

UNIT = "sampan.scope"
# The unit that starts and stops containers with the machine (engine.unit).
SERVICE = "sampan.service"
CONTROLLERS = ("cpu", "memory", "pids")
_SYSTEMD = "org.freedesktop.systemd1"
_MANAGER = (_SYSTEMD, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_PROPERTIES = "org.freedesktop.DBus.Properties"
_TRIES = 5
# A scope whose last process has just gone stays for a moment, in which it can neither be joined nor made again.
_ENDING = (
    "org.freedesktop.DBus.Error.FileExists",
    "org.freedesktop.DBus.Error.InvalidArgs",
    "org.freedesktop.systemd1.NoSuchUnit",
    "org.freedesktop.systemd1.UnitExists",
)
_ENDING_SECONDS = 15.0
_MOST_TRIES = 1000


class Scope:
    """The scope of one user; `join` makes it where it is not."""

    __slots__ = ("_point", "_settings")

    def __init__(self, settings: "Settings", point: str) -> None:
        self._settings = settings
        self._point = point

    def is_possible(self) -> bool:
        """Tell whether there is a systemd to ask: a normal user without a user manager has none."""
        return os.path.exists(self._bus())

    def directory(self) -> str:
        """Return where the scope's group is by systemd's defaults; `join` returns where it really is."""
        if self._settings.uid == 0:
            return f"{self._point}/system.slice/{UNIT}"
        uid = self._settings.uid
        return f"{self._point}/user.slice/user-{uid}.slice/user@{uid}.service/app.slice/{UNIT}"

    def join(self, pid: int) -> str:
        """Move `pid` into the scope's leaf `monitors`, making the scope if need be; return the scope's directory."""
        deadline = time.monotonic() + _ENDING_SECONDS
        for attempt in range(_MOST_TRIES):
            if self._settings.uid == 0 and self._enter(self.directory()):
                return self.directory()
            try:
                with dbus.Connection(self._bus(), self._settings.uid) as bus:
                    directory = self._point + _make_or_attach(bus, pid)
            except dbus.Refused as error:
                if attempt >= _TRIES and (error.name not in _ENDING or time.monotonic() > deadline):
                    raise Unavailable(f"systemd does not give the scope `{UNIT}`") from error
                time.sleep(0.05)
                continue
            if self._enter(directory):
                return directory
        raise Unavailable(f"the scope `{UNIT}` of systemd vanished {_MOST_TRIES} times")

    def _enter(self, directory: str) -> bool:
        """Go into the leaf; False where the scope is not there (any more)."""
        try:
            os.makedirs(f"{directory}/monitors", exist_ok=True) if os.path.isdir(directory) else None
            with open(f"{directory}/monitors/cgroup.procs", "w", encoding="utf-8") as file:
                file.write("0")
        except OSError:
            return False
        return True

    def _bus(self) -> str:
        if self._settings.uid == 0:
            return "/run/dbus/system_bus_socket"
        runtime = self._settings.environment.get("XDG_RUNTIME_DIR") or f"/run/user/{self._settings.uid}"
        return f"{runtime}/bus"


def _make_or_attach(bus: dbus.Connection, pid: int) -> str:
    """Have systemd put `pid` into the scope; return the scope's group, absolute in the hierarchy."""
    properties = [
        ("Description", ("s", "Sampan containers")),
        ("PIDs", ("au", [pid])),
        ("Delegate", ("b", True)),
        ("CollectMode", ("s", "inactive-or-failed")),
        # When the machine goes down, who stops containers in order does so before this ends them at once. Said here,
        # for a unit that named this scope would keep systemd from forgetting it: then it cannot be made again.
        ("Before", ("as", [SERVICE])),
    ]
    try:
        job = bus.call(*_MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", (UNIT, "fail", properties, []))[0]
        _await_job(bus, job)
    except dbus.Refused as error:
        if error.name not in ("org.freedesktop.systemd1.UnitExists", "org.freedesktop.DBus.Error.FileExists"):
            raise
        bus.call(*_MANAGER, "AttachProcessesToUnit", "ssau", (UNIT, "/monitors", [pid]))
    path = bus.call(*_MANAGER, "GetUnit", "s", (UNIT,))[0]
    group = bus.call(_SYSTEMD, str(path), _PROPERTIES, "Get", "ss", ("org.freedesktop.systemd1.Scope", "ControlGroup"))[
        0
    ]
    return str(group)


def _await_job(bus: dbus.Connection, job: object) -> None:
    """Wait until the job object is gone: polling needs no subscription, and a scope starts in a few milliseconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            bus.call(_SYSTEMD, str(job), _PROPERTIES, "Get", "ss", ("org.freedesktop.systemd1.Job", "State"))
        except dbus.Refused:
            return
        time.sleep(0.002)
