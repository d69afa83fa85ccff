"""What `network create --opt` may say: docker's words for its bridge driver, those that can be honoured. Pure.

Source: docker's manual of the bridge driver, "Options". A value is kept as it was written, and shown so by `inspect`.
"""

from sampan.errors import InvalidArgument, Unsupported
from sampan.network.endpoint import pack
from sampan.network.ipam import BRIDGE_NAME, FALSE, HOST_IP, ICC, MASQUERADE, MTU, TRUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Those of docker's that say what is so here in any case.
_SO_ANYHOW = {"com.docker.network.bridge.gateway_mode_ipv4": "nat"}
KNOWN = (BRIDGE_NAME, HOST_IP, ICC, MASQUERADE, MTU, *_SO_ANYHOW)
_LEAST_MTU, _MOST_MTU = 68, 65535  # IPv4's least, and what a veth takes
_NAME_BYTES = 15  # IFNAMSIZ without its NUL
# Ours are called so, whoever's store they belong to.
_OURS = ("smp", "sampan")


def check(options: "Mapping[str, str]") -> None:
    """Raise Unsupported for an option that is not there, InvalidArgument for a value that is none."""
    for key, value in options.items():
        if key not in KNOWN:
            raise Unsupported(f"the network option `{key}` is not there", hints=(f"known: {', '.join(KNOWN)}",))
        if key in _SO_ANYHOW and value != _SO_ANYHOW[key]:
            raise Unsupported(f"`{key}` can only be `{_SO_ANYHOW[key]}`", hints=("leave it out",))
        if key in (ICC, MASQUERADE) and value not in (*TRUE, *FALSE):
            raise InvalidArgument(f"`{value}` of `{key}` is neither true nor false")
    if MTU in options:
        _check_mtu(options[MTU])
    if HOST_IP in options:
        pack(options[HOST_IP])
    if BRIDGE_NAME in options:
        _check_name(options[BRIDGE_NAME])


def _check_mtu(text: str) -> None:
    if not text.isascii() or not text.isdigit() or len(text) > 5 or not _LEAST_MTU <= int(text) <= _MOST_MTU:
        raise InvalidArgument(f"`{text}` of `{MTU}` is no packet size", hints=(f"{_LEAST_MTU} to {_MOST_MTU} bytes",))


def _check_name(name: str) -> None:
    is_word = name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    if not is_word or len(name) > _NAME_BYTES or name.startswith(_OURS):
        raise InvalidArgument(
            f"a bridge cannot be called `{name}`",
            hints=(f"letters, digits, `-`, `_`, `.`, {_NAME_BYTES} at most, and not `{'…` or `'.join(_OURS)}…`",),
        )
