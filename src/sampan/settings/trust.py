"""Which certificate authorities and proxies this machine trusts: as its other programs find them, never a list of ours.

The first that is set wins: SSL_CERT_FILE (OpenSSL), then the variables of pip, requests and curl, then the bundle of
the distribution. Proxies are curl's variables, the lower case name first.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# Debian and Alpine; Fedora and RHEL; openSUSE; older RHEL (crypto/x509/root_linux.go).
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
)
_MAX_FILE_BYTES = 16 << 20
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def ca_bundle(environment: "Mapping[str, str]") -> str | None:
    """Return the path of the CA bundle that programs here use; None where there is none to be found."""
    named = [environment[name] for name in _VARIABLES if environment.get(name)]
    for path in (*named, *_BUNDLES):
        if os.path.isfile(path):
            return path
    return None


def certificates(environment: "Mapping[str, str]") -> bytes:
    """Return all certificates of every bundle that a variable names, and of the distribution's, each once."""
    named = [environment[name] for name in _VARIABLES if environment.get(name)]
    found: dict[bytes, None] = {}
    for path in dict.fromkeys((*named, *_BUNDLES)):
        for part in read(path).split(_BEGIN)[1:]:
            body, end, _ = part.partition(_END)
            if end:
                found[body.strip()] = None
    return b"".join(b"%s\n%s\n%s\n" % (_BEGIN, body, _END) for body in found)


def netrc(environment: "Mapping[str, str]") -> bytes:
    """Return the person's passwords for hosts (curl's and pip's netrc); empty where there are none."""
    return read(environment.get("NETRC") or f"{environment.get('HOME') or '/'}/.netrc")


def read(path: str) -> bytes:
    """Return what a file of settings holds; empty where it is not there, or not ours to read."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_FILE_BYTES)
    except OSError:
        return b""


def proxy_variables(environment: "Mapping[str, str]") -> dict[str, str]:
    """Return the proxy variables that are set, by their lower case names."""
    found = {}
    for name in PROXY_VARIABLES:
        value = environment.get(name) or environment.get(name.upper(), "")
        if value:
            found[name] = value
    return found


def proxy_for(environment: "Mapping[str, str]", scheme: str, host: str) -> str | None:
    """Return the proxy for `scheme` (`http`, `https`) and `host`, or None where the way is direct."""
    variables = proxy_variables(environment)
    if _is_exempt(host, variables.get("no_proxy", "")):
        return None
    return variables.get(f"{scheme}_proxy") or variables.get("all_proxy")


def _is_exempt(host: str, no_proxy: str) -> bool:
    """Tell whether no_proxy names `host`, as curl reads it: a suffix at a dot, or `*`."""
    for entry in no_proxy.replace(",", " ").split():
        name = entry.strip().lstrip(".").partition(":")[0].lower()
        if name == "*" or (name and (host.lower() == name or host.lower().endswith(f".{name}"))):
            return True
    return False
