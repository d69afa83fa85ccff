"""The keeper of a process that `exec` runs in a container: a small monitor that keeps no log. Hot path.

Theory. The process is the keeper's child, dies with it, and dies with the container, whose pid namespace it is in. The
command is attached to the keeper as it is to a monitor, by the same protocol, so it may die or detach without harm to
the process; with `--detach` nobody is attached. What became of each is in containers/ID/execs/EXECID.json:

    running: true, pid     written once the command runs
    running: false, exit_code    written when it has ended; the newest RECORDS of these are kept
"""

import _socket
import os
import time

from sampan import journal
from sampan.document import render
from sampan.engine import fault, frame, sealing, state
from sampan.engine.stdio import Pipes
from sampan.engine.switchboard import Switchboard
from sampan.kernel import capability, seccomp
from sampan.oci.runtime import Process, Spec, parse_mappings
from sampan.runtime import cgroup, process, user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.engine.sealing import Receive
    from sampan.settings.configuration import Settings

VERSION = 1
RECORDS = 50


def run(channel: _socket.socket, settings: "Settings", receive: "Receive") -> None:
    """Wait for the request; run the process that it tells of, in the container whose pidfd came with it, to its end."""
    received = receive()
    if received is None:
        return
    request, pidfd = received
    if not request["uid_mappings"]:
        sealing.seal(sealing.KEEPER, channel, settings, request, pidfd)
    # What nobody waits for leaves the caller's cgroup. So does a normal user's keeper: the kernel lets nobody but root
    # start a process in a delegated group from outside of it.
    parent = cgroup.open_parent(settings) if request["detach"] or settings.uid != 0 else None
    try:
        if parent is not None:
            parent.enter_monitor()
        fault.reach(fault.KEEPER_REQUESTED, request["fault"])
        board, pid = _start(settings, request, pidfd)
        fault.reach(fault.KEEPER_STARTED, request["fault"])
    except Exception as error:  # noqa: BLE001 - the process's boundary: it crosses the channel, whatever it is
        channel.sendall(frame.pack(frame.ERROR, frame.render_error(error)))
        _note_start(request)
        return
    _record(request, {"running": True, "pid": pid})
    board.add(channel, is_launcher=True)
    board.tell(frame.pack(frame.STARTED))
    _note_start(request)
    board.run()
    fault.reach(fault.KEEPER_ENDED, request["fault"])
    _, wait_status = os.waitpid(pid, 0)
    status = os.waitstatus_to_exitcode(wait_status)
    status = 128 - status if status < 0 else status
    try:
        _record(request, {"running": False, "pid": pid, "exit_code": status})
        _forget_old(os.path.dirname(request["record"]))
    except OSError:
        pass  # the container's directory may be gone: its end was the process's
    _note(request, "exec_die", exitCode=str(status))
    board.farewell(status)
    if parent is not None:
        parent.leave_monitor()
    board.flush()


def _note_start(request: "Document") -> None:
    """Tell the journal what docker tells: also of a command that could not be executed."""
    command, *arguments = request["command"]
    for action in ("exec_create", "exec_start"):
        _note(request, f"{action}: {command} {' '.join(arguments)}")


def _note(request: "Document", action: str, **attributes: str) -> None:
    directory, told = os.path.dirname(os.path.dirname(request["record"])), request["attributes"]
    told = told | {"name": state.read_name(directory, told.get("name", ""))}
    told |= {"execID": os.path.basename(request["record"]).removesuffix(".json")} | attributes
    journal.note(request["root"], action, request["container_id"], told)


def _start(settings: "Settings", request: "Document", pidfd: int) -> tuple[Switchboard, int]:
    what = _process(request)
    program = None
    if request["seccomp"] != "unconfined":
        cache = f"{settings.root}/cache/seccomp"
        # The container's own, whatever more its process is given.
        held = tuple(request["process"]["capabilities"]["bounding"])
        program = seccomp.program(cache, held, profile=request["seccomp_profile"])
    group = cgroup.parse(request["cgroup"])
    group.open()
    with Pipes(has_terminal=what.terminal, has_stdin=request["interactive"]) as pipes:
        pid, child_pidfd, master = process.execute(
            pidfd,
            what,
            stdio=pipes.theirs(),
            cgroup=group,
            seccomp_program=program,
            uid_mappings=parse_mappings(request["uid_mappings"]),
            gid_mappings=parse_mappings(request["gid_mappings"]),
        )
    group.close()
    board = Switchboard(child_pidfd, None, None)
    if master is None:
        board.connect_pipes(*pipes.ours())
    else:
        board.connect_terminal(master, has_stdin=request["interactive"])
        if request["window"]:
            board.resize(*request["window"])
    board.is_stdin_once = request["interactive"]
    return board, pid


def _process(request: "Document") -> Process:
    """Return the process: the container's own, as far as nothing else was asked."""
    what = Spec.parse({"process": request["process"], "root": {"path": ""}, "linux": {}}).process
    who = _user(request)
    what.args = tuple(request["command"])
    what.cwd = request["workdir"] or what.cwd
    what.uid, what.gid, what.additional_gids = who.uid, who.gid, who.gids
    what.terminal = request["tty"]
    what.oom_score_adj = None
    environment = dict(word.partition("=")[::2] for word in what.env)
    if request["is_home_user_s"]:
        environment["HOME"] = who.home
    if request["tty"]:
        environment.setdefault("TERM", "xterm")
    environment |= dict(word.partition("=")[::2] for word in request["env"])
    what.env = tuple(f"{key}={value}" for key, value in environment.items())
    if request["privileged"]:
        what.capabilities = capability.NAMES[: capability.last() + 1]
    return what


def _user(request: "Document") -> user.User:
    """Look the user up in the container's root as it is now."""
    # SECURITY: of the root only a descriptor is opened, which follows nothing of the container's.
    root_fd = os.open(f"/proc/{request['pid']}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        who = user.resolve(root_fd, request["user"], tuple(request["group_add"]))
        return user.within(who, parse_mappings(request["uid_mappings"]))
    finally:
        os.close(root_fd)


def _record(request: "Document", told: "Document") -> None:
    path: str = request["record"]
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    document = {"version": VERSION, "command": request["command"], "time": state.timestamp(time.time_ns())} | told
    state.write_file(path, render(document).encode(), durable=False)


def _forget_old(directory: str) -> None:
    """Remove the oldest records of processes that have ended, past RECORDS."""
    names = os.listdir(directory)
    if len(names) <= RECORDS:
        return
    ages = sorted((os.stat(f"{directory}/{name}").st_mtime_ns, name) for name in names)
    for _, name in ages[: len(names) - RECORDS]:
        os.unlink(f"{directory}/{name}")
