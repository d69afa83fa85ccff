"""Seccomp profiles that a person names: `--security-opt seccomp=FILE`. Hot path: mostly there is none."""

from sampan.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.engine.run_options import RunOptions

PROFILE_BYTES = 1024 * 1024


def read(options: "RunOptions") -> "Document | None":
    """Read the profile that `--security-opt seccomp=FILE` names; None for the default one and for none at all."""
    if options.privileged or options.seccomp in {"", "unconfined"}:
        return None
    try:
        with open(options.seccomp, "rb") as file:
            content = file.read(PROFILE_BYTES + 1)
    except OSError as error:
        hints = ("name a profile in docker's format, or none: `--security-opt seccomp=unconfined`",)
        raise NotFound(f"the seccomp profile `{options.seccomp}` cannot be read", hints=hints) from error
    import json  # only here: the error then says where in the file it is

    try:
        document = json.loads(content) if len(content) <= PROFILE_BYTES else None
    except ValueError as error:
        raise InvalidArgument(f"the seccomp profile `{options.seccomp}` is not JSON") from error
    if not isinstance(document, dict):
        raise InvalidArgument(
            f"the seccomp profile `{options.seccomp}` is not one JSON object of at most {PROFILE_BYTES} bytes"
        )
    return document
