"""The init of `--init`: which program it is (`specification` says where it appears).

It reaps the children of processes that are gone and passes signals on, as the container's first process. A container
has none of the machine's libraries, so only a static program will do: the one that the settings name, else one that is
installed here, else Debian's, which Sampan's own Debian room keeps at `kept` (the command has it fetched; the engine
does not know how). All take `-- COMMAND`.
"""

import os

from sampan.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.settings.configuration import Settings

# docker's own package, Debian's docker.io, Debian's tini, podman's.
_INSTALLED = (
    "/usr/bin/docker-init",
    "/usr/libexec/docker/docker-init",
    "/usr/bin/tini-static",
    "/usr/libexec/podman/catatonit",
)
_PROGRAM_INTERPRETER = 3  # PT_INTERP of elf(5): the loader that a dynamic program needs


def find(settings: "Settings") -> str:
    """Return the init's path on this machine; raises NotFound, and InvalidArgument for a named one that cannot do."""
    if settings.init:
        if not is_static(settings.init):
            raise InvalidArgument(
                f"the init `{settings.init}` of the settings is no static program",
                hints=("a container has none of the machine's libraries; leave `init` out and one is fetched",),
            )
        return settings.init
    for path in (*_INSTALLED, kept(settings)):
        if is_static(path):
            return path
    raise NotFound(
        "there is no init for `--init` on this machine",
        hints=(
            "`sampan run --init` fetches one where a Debian mirror can be reached",
            'or install one: `apt install tini`, or name a static one: `init = "/PATH"` in config.toml',
        ),
    )


def kept(settings: "Settings") -> str:
    """Return where Debian's is kept once it was fetched."""
    return f"{settings.root}/cache/init/tini-{os.uname().machine}"


def is_static(path: str) -> bool:
    """Tell whether there is an executable at `path` that needs no loader (ELF with 64 bits, little-endian)."""
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    if head[:6] != b"\x7fELF\x02\x01" or not os.access(path, os.X_OK):
        return False
    first, size, count = (int.from_bytes(head[at : at + n], "little") for at, n in ((32, 8), (54, 2), (56, 2)))
    places = range(first, first + size * count, size or 1)
    return all(int.from_bytes(head[at : at + 4], "little") != _PROGRAM_INTERPRETER for at in places)
