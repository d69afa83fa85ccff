"""`sampan update`: other limits for containers that are there."""

from sampan.cli import request
from sampan.cli.container import each
from sampan.cli.flags import Command, Parsed
from sampan.engine import words
from sampan.engine.update import Change
from sampan.units import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings

_FLAGS = (
    "blkio-weight cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems memory "
    "memory-reservation memory-swap pids-limit restart"
).split()


def update(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Change containers."""
    from sampan.engine import update as engine_update

    change = Change(
        # docker: 0 is "not said".
        memory_bytes=parsed.convert("memory", parse_size) or None,
        memory_swap_bytes=parsed.convert("memory-swap", request.size_or_unlimited) or None,
        memory_reservation_bytes=parsed.convert("memory-reservation", parse_size) or None,
        nano_cpus=request.nano_cpus(parsed),
        cpu_quota_us=parsed.number("cpu-quota") or None,
        cpu_period_us=parsed.number("cpu-period") or None,
        cpu_rt_period_us=parsed.number("cpu-rt-period") or None,
        cpu_rt_runtime_us=parsed.number("cpu-rt-runtime") or None,
        cpu_shares=parsed.number("cpu-shares") or None,
        cpuset_cpus=parsed.convert("cpuset-cpus", words.check_cpuset),
        cpuset_mems=parsed.convert("cpuset-mems", words.check_cpuset),
        blkio_weight=parsed.number("blkio-weight") or None,
        pids_limit=parsed.number("pids-limit") or None,
        restart=parsed.convert("restart", words.parse_restart),
    )

    def act(name: str) -> str:
        engine_update.update(settings, name, change)
        return name

    return each(parsed.arguments, printer, act)


COMMANDS = (
    Command(
        "update",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Give containers other limits or another restart policy, whether they run or not",
        execute=update,
        flags=tuple(flag for flag in request.CREATE_FLAGS if flag.name in _FLAGS),
        minimum=1,
        text=(
            "What is not named stays as it is. Of a running container the limits change at once. Its restart policy\n"
            "may be changed or taken away; its first one it gets while it is stopped."
        ),
        examples=("sampan update --memory 512m --cpus 0.5 web", "sampan update --restart no web"),
    ),
)
