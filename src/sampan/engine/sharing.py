"""What a container may share with the machine or with another container, and what excludes what. Pure.

Sources: docker run(1), and the refusals of moby's runconfig (validateNetMode), with docker's exit status.
"""

from sampan.errors import InvalidArgument
from sampan.network.endpoint import CONTAINER, HOST, NONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.engine.run_options import RunOptions

SHAREABLE = "shareable"
# Flag -> the modes that there are; those with `container:` join another container.
_MODES = {
    "cgroupns": ("host", "private"),
    "ipc": ("none", "private", SHAREABLE, "host", CONTAINER),
    "pid": ("host", CONTAINER),
    "uts": ("host",),
}
_DOMAIN_BYTES = 64  # __NEW_UTS_LEN of linux/utsname.h


def check(options: "RunOptions") -> None:
    """Raise InvalidArgument for a mode that is none, and for what docker refuses together."""
    for flag, modes in _MODES.items():
        _check_mode(flag, getattr(options, flag), modes)
    if options.uts == "host" and (options.hostname or options.domainname):
        raise _conflict(
            "--hostname` and `--domainname", "--uts host", "the machine's name is not the container's to set"
        )
    if len(options.domainname) > _DOMAIN_BYTES:
        raise InvalidArgument(f"a domain name has at most {_DOMAIN_BYTES} bytes")
    mode = options.network_mode
    if mode.startswith(CONTAINER):
        _check_joined_network(options, mode)
    elif options.links and mode in {HOST, NONE}:
        raise _conflict("--link", f"--network {mode}", "nobody is linked there")
    for link in options.links:
        name, colon, alias = link.partition(":")
        if not name or (colon and not alias):
            raise InvalidArgument(f"`{link}` is no link", hints=("write it like `CONTAINER` or `CONTAINER:ALIAS`",))


def _check_mode(flag: str, mode: str, modes: tuple[str, ...]) -> None:
    if not mode or (mode in modes and mode != CONTAINER):
        return
    if CONTAINER in modes and mode.startswith(CONTAINER) and mode != CONTAINER:
        return
    words = ", ".join(f"`{word}NAME`" if word == CONTAINER else f"`{word}`" for word in modes)
    raise InvalidArgument(f"`--{flag} {mode}` is no mode", hints=(f"there are {words}",))


def _check_joined_network(options: "RunOptions", mode: str) -> None:
    """Refuse what only the owner of a network can say, moby's list."""
    if mode == CONTAINER:
        raise InvalidArgument("`--network container:` names no container", hints=("write `container:NAME`",))
    if len(options.networks) > 1:
        raise InvalidArgument(f"the network `{mode}` excludes every other", hints=("leave one of both out",))
    asked = {
        "--hostname": options.hostname,
        "--link": options.links,
        "--dns": options.dns,
        "--add-host": options.add_host,
        "--publish": options.ports or options.publish_all,
        "--expose": options.expose,
        "--ip": options.networks[0].ip,
        "--network-alias": options.networks[0].aliases,
        "--mac-address": options.networks[0].mac,
    }
    for flag, value in asked.items():
        if value:
            raise _conflict(flag, f"--network {mode}", "say it where that container is made")


def _conflict(flag: str, other: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"`{flag}` and `{other}` exclude each other", hints=(why,))


def aliases(options: "RunOptions") -> "list[tuple[str, str]]":
    """Return (container, alias) of each link; without an alias it is called what it is called."""
    pairs = [link.partition(":") for link in options.links]
    return [(name, alias or name) for name, _, alias in pairs]
