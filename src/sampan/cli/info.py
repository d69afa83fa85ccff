"""`sampan info`: this machine as Sampan sees it, and what the store has, in docker's words."""

import os

from sampan.cli import format as formats
from sampan.cli.flags import Command, Flag, Parsed
from sampan.cli.system import installed_version
from sampan.engine import rootless
from sampan.units import binary_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.document import Document
    from sampan.settings.configuration import Settings

# Line -> the document's key.
_LINES = (
    ("Containers", "Containers"),
    (" Running", "ContainersRunning"),
    (" Paused", "ContainersPaused"),
    (" Stopped", "ContainersStopped"),
    ("Images", "Images"),
    ("Version", "ServerVersion"),
    ("Storage Driver", "Driver"),
    ("Logging Driver", "LoggingDriver"),
    ("Cgroup Driver", "CgroupDriver"),
    ("Cgroup Version", "CgroupVersion"),
    ("Default Runtime", "DefaultRuntime"),
    ("Kernel Version", "KernelVersion"),
    ("Operating System", "OperatingSystem"),
    ("OSType", "OSType"),
    ("Architecture", "Architecture"),
    ("CPUs", "NCPU"),
    ("Name", "Name"),
    ("Root Dir", "DockerRootDir"),
)


def info(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Show the machine and the store."""
    document = facts(settings)
    form = formats.choose(parsed)
    if form == formats.JSON:
        printer.json(document)
    elif form != formats.TABLE:
        formats.filled(form)(printer, document)
    else:
        lines = [f"{title}: {document[key]}" for title, key in _LINES]
        lines += [f"Total Memory: {binary_size(document['MemTotal'])}"]
        lines += ["Security Options:", *(f" {word}" for word in document["SecurityOptions"])]
        printer.out("\n".join(lines))
        for warning in document["Warnings"]:
            printer.warn(warning)
    return 0


def facts(settings: "Settings") -> "Document":
    """Return docker's info document, as far as there is something to say without a daemon."""
    from sampan.database import connection
    from sampan.engine import inspection, usage
    from sampan.runtime import cgroup, cgroup_v1

    rootless.enter(settings)
    states = [row["State"] for row in inspection.summaries(settings, all=True)]
    with connection.open(settings) as database:
        (images,) = database.row("SELECT count(*) FROM images") or (0,)
    machine = os.uname()
    controllers = cgroup.open_parent(settings).controllers
    points = cgroup_v1.hierarchies()
    is_1 = any(name in points for name in ("memory", "cpu", "pids"))
    running = sum(state in {"running", "restarting"} for state in states)
    paused = states.count("paused")
    return {
        "Architecture": machine.machine,
        "CgroupDriver": "cgroupfs" if is_1 or not os.path.isdir("/run/systemd/system") else "systemd",
        "CgroupVersion": "1" if is_1 else "2",
        "Containers": len(states),
        "ContainersPaused": paused,
        "ContainersRunning": running,
        "ContainersStopped": len(states) - running - paused,
        "CpuCfsQuota": "cpu" in controllers,
        "DefaultRuntime": settings.runtime,
        "DockerRootDir": settings.root,
        "Driver": "overlay",
        "Images": images,
        "KernelVersion": machine.release,
        "LoggingDriver": "json-file",
        "MemTotal": usage.memory_bytes(),
        "MemoryLimit": "memory" in controllers,
        "NCPU": os.cpu_count() or 1,
        "Name": machine.nodename,
        "OSType": "linux",
        "OperatingSystem": _system(),
        "PidsLimit": "pids" in controllers,
        "SecurityOptions": [
            "name=seccomp,profile=builtin",
            "name=userns",
            *(["name=rootless"] if settings.uid else []),
        ],
        "ServerVersion": installed_version(),
        "Warnings": [
            f"there is no cgroup controller `{name}`: `sampan doctor` says what that means"
            for name in ("memory", "cpu", "pids")
            if name not in controllers
        ],
    }


def _system() -> str:
    """Return os-release(5)'s PRETTY_NAME."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = file.read(1 << 16).splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition("=")
            if name == "PRETTY_NAME":
                return value.strip("\"'")
    return "Linux"


COMMANDS = (
    Command(
        "info",
        "[OPTIONS]",
        "Show this machine and what the store has, in docker's words",
        execute=info,
        flags=(Flag("format", "string", formats.INSPECT_HELP, short="f"),),
        maximum=0,
        text="`sampan doctor` tries what the machine can do, and says how to mend what is missing.",
        examples=("sampan info", "sampan info -f '{{.CgroupVersion}}'"),
    ),
)
