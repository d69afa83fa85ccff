"""Where a registry answers: its mirrors in the order of the configuration, then itself. Pure.

docker.io is a name, not an address: its registry is registry-1.docker.io. TLS is the rule. Plain HTTP is spoken where a
mirror's address says so; and to loopback, and to what the configuration calls `insecure`, it is tried first and
unverified TLS after it (docker has the same two, in the other order: a plain server may never answer a TLS greeting).
"""

from dataclasses import dataclass

from sampan.oci.reference import DEFAULT_DOMAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.settings.configuration import Settings

HUB_ADDRESS = "registry-1.docker.io"
_HUB_NAMES = frozenset((DEFAULT_DOMAIN, "index.docker.io", HUB_ADDRESS))
_BOTH: tuple[str, ...] = ("http", "https")
_TLS: tuple[str, ...] = ("https",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One place to ask. `schemes` in the order to try; `prefix` goes before the repository; `name` is for people."""

    name: str
    address: str
    schemes: tuple[str, ...] = _TLS
    prefix: str = ""
    verify: bool = True

    def repository(self, path: str) -> str:
        """Return what the repository `path` is called there."""
        return f"{self.prefix}/{path}" if self.prefix else path


def canonical(domain: str) -> str:
    """Return the one name of a registry: docker.io has several."""
    return DEFAULT_DOMAIN if domain in _HUB_NAMES else domain


def registry_of(settings: "Settings", domain: str) -> Host:
    """Return where the registry `domain` itself answers."""
    domain = canonical(domain)
    address = HUB_ADDRESS if domain == DEFAULT_DOMAIN else domain
    plain = _is_plain(settings, domain)
    return Host(name=domain, address=address, schemes=_BOTH if plain else _TLS, verify=not plain)


def hosts_of(settings: "Settings", domain: str) -> tuple[Host, ...]:
    """Return whom to ask for an image of `domain`, in order; the registry itself is the last."""
    named = settings.registries.get(domain) or settings.registries.get(canonical(domain))
    mirrors = [_mirror(settings, text) for text in named.mirrors] if named else []
    return (*mirrors, registry_of(settings, domain))


def _mirror(settings: "Settings", text: str) -> Host:
    scheme, _, rest = text.rpartition("://")
    address, _, prefix = rest.partition("/")
    plain = not scheme and _is_plain(settings, address)
    schemes = (scheme,) if scheme else _BOTH if plain else _TLS
    return Host(name=address, address=address, schemes=schemes, prefix=prefix.strip("/"), verify=not plain)


def _is_plain(settings: "Settings", domain: str) -> bool:
    named = settings.registries.get(domain)
    return is_loopback(domain) or (named is not None and named.insecure)


def is_loopback(address: str) -> bool:
    """Tell whether `address`, a host with or without a port, is this machine."""
    host = address.rpartition("]")[0].lstrip("[") if address.startswith("[") else address.partition(":")[0]
    # SECURITY: 127.example.com is somebody else's.
    return host in {"localhost", "::1"} or (host.startswith("127.") and not host.strip("0123456789."))
