"""When a service may start: the conditions of depends_on, and `up --wait`.

There is nothing to be told by, so the containers are looked at again and again; a look takes a millisecond.
"""

import time
from collections.abc import Iterable

from sampan.compose.crew import Say
from sampan.compose.model.project import COMPLETED, HEALTHY
from sampan.engine import inspection
from sampan.errors import Conflict, InvalidArgument, NotFound, SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.settings.configuration import Settings

LOOK_SECONDS = 0.05


def wait(
    settings: "Settings", names: Iterable[str], condition: str, say: Say, *, timeout_seconds: float | None = None
) -> None:
    """Wait until these containers meet a condition; raises Conflict where they cannot any more."""
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    for name in names:
        said = False
        while not _is_met(settings, name, condition):
            if not said:
                say(f"Container {name}", "Waiting")
                said = True
            if deadline is not None and time.monotonic() > deadline:
                raise SampanError(
                    f"the container `{name}` was not ready within {timeout_seconds:g} s",
                    hints=(f"`sampan logs {name}` shows what it said",),
                )
            time.sleep(LOOK_SECONDS)
        if said or condition == HEALTHY:
            say(f"Container {name}", "Exited" if condition == COMPLETED else "Healthy")


def wait_ready(settings: "Settings", names: Iterable[str], say: Say, *, timeout_seconds: float | None = None) -> None:
    """Wait until these containers run, and those with a health check are healthy (`up --wait`)."""
    names = list(names)
    checked = {name for name in names if "Health" in _state(settings, name)}
    wait(settings, [name for name in names if name in checked], HEALTHY, say, timeout_seconds=timeout_seconds)
    for name in names:
        told = _state(settings, name)
        if not told["Running"]:
            raise _failed(name, f"exited ({told['ExitCode']})")


def _is_met(settings: "Settings", name: str, condition: str) -> bool:
    told = _state(settings, name)
    if condition == COMPLETED:
        if told["Status"] in {"running", "restarting", "created"}:
            return False
        if told["ExitCode"] != 0:
            raise _failed(name, f"didn't complete successfully: exit {told['ExitCode']}")
        return True
    if condition == HEALTHY:
        return _is_healthy(name, told)
    return True


def _is_healthy(name: str, told: "Document") -> bool:
    health = told.get("Health", {}).get("Status", "none")
    if health == "healthy":
        return True
    if health == "none":
        raise InvalidArgument(
            f"the container `{name}` has no health check, so nobody can wait until it is healthy",
            hints=("give its service a `healthcheck:`, or wait for `service_started`",),
        )
    if health == "unhealthy":
        raise _failed(name, "is unhealthy")
    if not told["Running"] and told["Status"] != "restarting":
        raise _failed(name, f"exited ({told['ExitCode']})")
    return False


def _failed(name: str, why: str) -> Conflict:
    return Conflict(
        f"dependency failed to start: container {name} {why}", hints=(f"`sampan logs {name}` shows what it said",)
    )


def _state(settings: "Settings", name: str) -> "Document":
    try:
        found: Document = inspection.inspect(settings, name)["State"]
    except NotFound as error:
        raise _failed(name, "was removed") from error
    return found
