"""What a build is pinned to: the lock's parts where they match the project, else what is resolved now. Hot.

A part's `inputs` is a digest of all that its choice depends on which is the project's own; what is the machine's
(indexes, mirrors, the day) is not in it, so a lock that was made elsewhere holds here.
"""

from sampan.build import lock as locks
from sampan.document import render
from sampan.events import Event
from sampan.oci.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.build.lock import Lock, Wheel
    from sampan.build.python.plan import Plan
    from sampan.build.python.resolve import Uv
    from sampan.build.session import Session
    from sampan.document import Document
    from sampan.errors import SampanError

_WHEELS, _BASE = "wheels", "base"
# Raised when what is chosen for the same inputs changes.
_VERSION = 1


def wheels(session: "Session", plan: "Plan", lock: "Lock") -> "tuple[Wheel, ...]":
    """Return the wheels that the project's requirements come to."""
    inputs, options = _wheel_inputs(plan), session.options
    part = None if options.upgrade else lock.part(options.platform, _WHEELS, inputs)
    if part is None:
        if options.locked:
            raise locks.missing("wheels", session.context.root)
        part = {"wheels": [wheel.document() for wheel in _resolved(session, plan)]}
        lock.set_part(options.platform, _WHEELS, inputs, part)
    return locks.parse_wheels(part)


def base(session: "Session", plan: "Plan", lock: "Lock") -> "Document":
    """Return the manifest of the base, as the lock has it."""
    release, options = plan.release, session.options
    part = None if options.upgrade else lock.part(options.platform, _BASE, _base_inputs(plan))
    if part is None and options.locked:
        raise locks.missing("packages for its base", session.context.root)
    if part is None:
        part = base_anew(session, plan, lock, refresh=options.upgrade)
    subject = f"Debian {release.debian} ({release.suite}) as of {part.get('date', '')}"
    session.sink(Event("choice", "base packages", f"{len(part['packages'])}, {subject}; `--upgrade` takes newer ones"))
    return part


def base_anew(session: "Session", plan: "Plan", lock: "Lock", *, refresh: bool) -> "Document":
    """Resolve the base and put it into the lock; `refresh` asks the mirror even where it was asked within a day."""
    from sampan.build.debian.base import Maker

    release, architecture = plan.release, session.options.architecture
    maker = Maker(session.settings, clock=session.clock, sink=session.sink)
    part = maker.resolve(release.suite, release.python, architecture, anew=refresh).document()
    lock.set_part(session.options.platform, _BASE, _base_inputs(plan), part)
    return part


def base_vanished(session: "Session", plan: "Plan", lock: "Lock", error: "SampanError") -> "Document":
    """Return a new base where a package of the locked one is gone from the mirror; raise `error` under --locked."""
    if session.options.locked:
        raise error
    session.sink(Event("warning", "base", f"{error.what}; choosing packages anew"))
    return base_anew(session, plan, lock, refresh=True)


def write(session: "Session", lock: "Lock") -> None:
    """Write the lock; a project that cannot be written to is built all the same."""
    import errno

    try:
        lock.write()
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise
        session.sink(Event("warning", locks.NAME, "cannot be written here: the next build resolves again"))


def _wheel_inputs(plan: "Plan") -> str:
    requirements, release = plan.requirements, plan.release
    parts = {
        "version": _VERSION,
        "python": release.python,
        "glibc": release.glibc,
        "requirements": sorted(item.text for item in requirements.items),
        "constraints": sorted(item.text for item in requirements.constraints),
        "options": sorted(requirements.options),
    }
    return str(Digest.of(render(parts).encode()))


def _base_inputs(plan: "Plan") -> str:
    release = plan.release
    return str(Digest.of(render({"version": _VERSION, "suite": release.suite, "python": release.python}).encode()))


def _resolved(session: "Session", plan: "Plan") -> "tuple[Wheel, ...]":
    from sampan.build.python import resolve

    session.sink(Event("step", "requirements", f"resolving for Python {plan.release.python}"))
    found = resolve.resolve(uv(session, plan), plan.requirements)
    session.sink(Event("done", "requirements", f"{len(found)} packages"))
    return found


def uv(session: "Session", plan: "Plan") -> "Uv":
    """Return uv, set to the image's Python and platform."""
    from sampan.build.python.resolve import Uv
    from sampan.settings import index

    options, root = session.options, session.context.root
    machine = index.load(session.settings, root, f"{session.settings.root}/cache/uv")
    return Uv(machine, plan.release, options.architecture, project=root, scratch=session.scratch)
