"""Whose signature on a Debian index counts.

First the keyrings that the machine's apt source names, else those that are installed here. Where none of them has the
key of a suite (another distribution, an older Debian), the archive's own keyring package is taken, and of its keys only
those whose fingerprints stand below: where that package came from does not matter then.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sampan.build.debian import deb
from sampan.errors import Corrupt

# Facts: the keys of Debian's archive, as its keyring team publishes them (debian-archive-keyring 2025.1).
FINGERPRINTS = frozenset(
    (
        "1f89983e0081fde018f3cc9673a4f27b8dd47936",  # archive, bullseye
        "ac530d520f2f3269f5e98313a48449044aad5c5d",  # security, bullseye
        "a4285295fc7b1a81600062a9605c66f00d6c9793",  # stable release, bullseye
        "b8b80b5b623eab6ad8775c45b7c5d7d6350947f8",  # archive, bookworm
        "05ab90340c0c5e797f44a8c8254cf3b5aec0a8f0",  # security, bookworm
        "4d64fec119c2029067d6e791f8d2585b8783d481",  # stable release, bookworm
        "04b54c3cdca79751b16bc6b5225629df75b188bd",  # archive, trixie
        "5e04a1e3223a19a20706e20f9904613d4cce68c6",  # security, trixie
        "41587f7db8c774bccf131416762f67a0b2c39de4",  # stable release, trixie
    ),
)
PACKAGE = "debian-archive-keyring"

# pysequoia's Cert; its stubs type verify's callback as Any.
Certificates = Sequence[Any]


def from_files(paths: Sequence[str]) -> Certificates:
    """Read the certificates of the keyrings at `paths`; one that cannot be read is passed over."""
    import pysequoia

    found = []
    for path in paths:
        try:
            found += pysequoia.Cert.split_file(path)
        except (OSError, RuntimeError):
            continue  # apt warns of it; what is missing shows when a signature has no key
    return found


def from_package(contents: bytes) -> Certificates:
    """Take from the keyring package those keys whose fingerprints are known; raises Corrupt where there is none."""
    import pysequoia

    found = []
    for header, content in deb.data(contents, f"`{PACKAGE}`"):
        if header.isreg() and header.name.startswith("usr/share/keyrings/") and header.name.endswith((".gpg", ".pgp")):
            try:
                certificates = pysequoia.Cert.split_bytes(content)
            except RuntimeError:
                continue
            found += [certificate for certificate in certificates if certificate.fingerprint in FINGERPRINTS]
    if not found:
        raise Corrupt(f"`{PACKAGE}` of the mirror holds none of Debian's known keys")
    return found


def verify(
    signed: bytes, subject: str, certificates: Certificates, more: Callable[[], Certificates] | None = None
) -> bytes:
    """Return what is signed in `signed`, an InRelease; nothing else of it may be read.

    `more` is asked for further certificates where the first ones do not do. Raises Corrupt, naming `subject`.
    """
    import pysequoia

    try:
        return bytes(pysequoia.verify(bytes=signed, store=lambda _ids: list(certificates)).bytes or b"")
    except RuntimeError as error:
        if more is not None:
            return verify(signed, subject, more())
        hints = (
            "somebody changed it on its way, or a proxy answered in the mirror's place: try another mirror",
            "if the archive's keys are new, upgrade them: `apt-get install debian-archive-keyring`",
        )
        # The library's text has a backtrace below its first line.
        reason = ValueError(str(error).partition("\n")[0])
        raise Corrupt(f"{subject} has no valid signature of a key that this machine trusts", hints=hints) from reason
