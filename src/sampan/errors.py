"""The error tree: everything that Sampan says went wrong is a leaf of `SampanError`.

Theory: an error carries four things and nothing else. `what` names the object in one clause with no full stop; the
*why* is the `__cause__` chain (always raise `from`); `at` is the place in a file a person wrote; `hints` say how to
mend it, with a command or an edit in backticks. Only `cli.app` turns an error into text and an exit status.

    SampanError
    |- InvalidArgument      the person's input is wrong: a flag, a name, a file's content
    |- NotFound             an image, container, volume, file or directory that was named does not exist
    |- AlreadyExists        a name, port or address is taken
    |- Conflict             the object exists but its state forbids the operation
    |- Unavailable          a mirror, index or registry cannot be reached or refuses
    |- Unsupported          this kernel, file system or machine cannot do it
    |- Corrupt              stored or fetched content is not what its digest, signature or format promises
    |- Exhausted            a resource has run out or a bound was passed: disk space, addresses, size limits
    |- CommandNotExecutable the container's command cannot be invoked (126)
    |- CommandNotFound      the container's command does not exist (127)
    `- Internal             a broken invariant of ours; please report
"""


class Place:
    """A place in a file that a person wrote: shown as `file:line` with the line's text below it."""

    __slots__ = ("line", "path", "text")

    def __init__(self, path: str, line: int | None = None, text: str | None = None) -> None:
        """Name `path`, the 1-based `line`, and that line's `text` where there is one."""
        self.path = path
        self.line = line
        self.text = text


class SampanError(Exception):
    """What went wrong, in one clause; see the module's docstring for its parts."""

    # The exit status of a command that fails with this error; `run` and flag errors use 125 instead (docker-run(1)).
    exit_status = 1

    def __init__(self, what: str, *, hints: tuple[str, ...] = (), at: Place | None = None) -> None:
        """Say `what` happened; `hints` are ways out, `at` the guilty place."""
        super().__init__(what)
        self.what = what
        self.hints = hints
        self.at = at


class InvalidArgument(SampanError):
    """The person's input is wrong."""


class NotFound(SampanError):
    """What was named does not exist."""


class AlreadyExists(SampanError):
    """A name, port or address is taken."""


class Conflict(SampanError):
    """The object's state forbids the operation."""


class Unavailable(SampanError):
    """Something outside this machine cannot be reached or refuses."""


class Unsupported(SampanError):
    """This kernel, file system or machine cannot do it."""


class Corrupt(SampanError):
    """Content is not what its digest, signature or format promises."""


class Exhausted(SampanError):
    """A resource has run out, or a bound was passed."""


class CommandNotExecutable(SampanError):
    """The container's command cannot be invoked."""

    exit_status = 126


class CommandNotFound(SampanError):
    """The container's command does not exist."""

    exit_status = 127


class Internal(SampanError):
    """An invariant of ours is broken."""
