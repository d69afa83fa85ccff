"""A health check's runner: a child of the monitor that runs one probe in the container, and says what came of it.

It joins the container as `exec` does, with the user, the environment, the limits and the filter of the container's own
process. A probe that takes too long is killed with all of its session. The answer is one document, docker's
HealthcheckResult, on the pipe that the monitor reads.
"""

import _signal
import os
import select
import time

from sampan.document import render
from sampan.engine import state
from sampan.errors import SampanError
from sampan.kernel import capability, syscalls
from sampan.oci.runtime import Process, Spec, parse_mappings
from sampan.runtime import cgroup, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from sampan.document import Document

OUTPUT_BYTES = 4096
_NEVER_RAN = -1


def run(request: "Document", plan: "Document", pidfd: int, writing: int, parent: int) -> "NoReturn":
    """Run the probe and write the answer to `writing`; `parent` is the monitor, with which this process dies."""
    try:
        capability.set_parent_death_signal()
        if os.getppid() != parent:  # it died before that was set
            os._exit(1)
        _signal.set_wakeup_fd(-1)
        _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
        # This imports, which the descriptor of a renewed monitor's modules is needed for.
        group = None if request["cgroup"] is None else cgroup.parse(request["cgroup"])
        # The lock above all: it must not outlive the monitor.
        syscalls.close_others([pidfd, writing])
        began = state.timestamp(time.time_ns())
        try:
            code, output = _probe(request, plan, pidfd, group)
        except Exception as error:  # noqa: BLE001 - the process's boundary: it crosses the pipe, whatever it is
            code, output = _NEVER_RAN, f"the probe could not run: {type(error).__name__}: {error}".encode()
        end = state.timestamp(time.time_ns())
        answer = {"Start": began, "End": end, "ExitCode": code, "Output": output.decode("utf-8", "replace")}
        os.set_blocking(writing, True)
        os.write(writing, render(answer).encode())
    finally:
        os._exit(0)


def _probe(request: "Document", plan: "Document", pidfd: int, group: "cgroup.Cgroup | None") -> tuple[int, bytes]:
    """Return the probe's exit status, and the beginning of what it said."""
    reading, theirs = os.pipe2(os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    program = request["seccomp_program"]
    if group is not None:
        group.open()
    try:
        pid, child, _ = process.execute(
            pidfd,
            _process(request, plan["command"]),
            stdio=process.Stdio(null, theirs, theirs),
            cgroup=group,
            seccomp_program=None if program is None else bytes.fromhex(program),
            uid_mappings=parse_mappings(request["uid_mappings"]),
            gid_mappings=parse_mappings(request["gid_mappings"]),
        )
    except SampanError as error:
        return error.exit_status if error.exit_status > 1 else _NEVER_RAN, error.what.encode()
    os.close(theirs)
    output, is_over = _listen(reading, child, time.monotonic() + plan["timeout"])
    if not is_over:
        _kill_session(pid, child)
    _, status = os.waitpid(pid, 0)
    if not is_over:
        return _NEVER_RAN, f"Health check exceeded timeout ({plan['timeout']:g}s)".encode()
    code = os.waitstatus_to_exitcode(status)
    return (128 - code if code < 0 else code), output


def _listen(reading: int, child: int, deadline: float) -> tuple[bytes, bool]:
    """Read until the probe has ended or its time has; return the beginning of its output, and which it was."""
    output, poll = bytearray(), select.poll()
    poll.register(child, select.POLLIN)
    poll.register(reading, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        ready = dict(poll.poll(left * 1000))
        if reading in ready:
            data = os.read(reading, 64 * 1024)
            output += data[: OUTPUT_BYTES - len(output)]
            if not data:
                poll.unregister(reading)
        elif child in ready:
            return bytes(output), True
    return bytes(output), False


def _kill_session(pid: int, child: int) -> None:
    """Kill the probe and what it has started: it leads a session, which only who leaves it on purpose is not in."""
    try:
        syscalls.pidfd_send_signal(child, _signal.SIGSTOP)
        for other in map(int, filter(str.isdigit, os.listdir("/proc"))):
            if other != pid and _session_of(other) == pid:
                os.kill(other, _signal.SIGKILL)
        syscalls.pidfd_send_signal(child, _signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has just ended


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _process(request: "Document", command: list[str]) -> Process:
    """Return the container's own process with another command."""
    what = Spec.parse({"process": request["process"], "root": {"path": ""}, "linux": {}}).process
    what.args = tuple(command)
    what.terminal = False
    what.oom_score_adj = None
    return what
