"""Kill -9 at every step: runs an operation in a child that kills itself at its N-th touch of a file or the database.

Every system call that changes files passes Python's audit hooks, and every statement passes `Database.execute`: both
are counted, and `points` runs the operation once for each count until one run ends by itself. No code of Sampan knows
of it.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator

from sampan.database.connection import Database

_TOUCHES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime"}
_MOST = 2000


def points(operation: Callable[[], object]) -> Iterator[int]:
    """Run `operation` in children that are killed at their 1st, 2nd, ...

    touch; yield after each, the whole run last.
    """
    for number in range(1, _MOST):
        is_killed = _run(operation, number)
        yield number
        if not is_killed:
            return
    raise AssertionError("the operation never ended")


def _run(operation: Callable[[], object], number: int) -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            _arm(number)
            operation()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _arm(number: int) -> None:
    left = number
    me = os.getpid()

    def touch() -> None:
        nonlocal left
        # A child of the operation is not the one that is killed.
        if os.getpid() == me:
            left -= 1
            if left == 0:
                os.kill(me, signal.SIGKILL)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in _TOUCHES:
            touch()

    execute = Database.execute

    def counted(self: Database, sql: str, parameters: object = ()) -> object:
        touch()
        result = execute(self, sql, parameters)  # type: ignore[arg-type]  # handed on as it came
        touch()
        return result

    Database.execute = counted  # type: ignore[method-assign,assignment]  # in this child only
    sys.addaudithook(hook)
