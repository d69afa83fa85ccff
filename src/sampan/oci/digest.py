"""Digests: what content is called by (image-spec v1.1, descriptor.md#digests). Pure; the hot path reads this."""

from sampan.errors import Corrupt, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    # What hashlib's constructors return.
    from hashlib import _Hash

# The registered algorithms and the length of their encoded form.
_LENGTHS = {"sha256": 64, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


class Digest:
    """An algorithm and a value: `sha256:` and 64 lower-case hexadecimal digits.

    Immutable, hashable, ordered as its text.
    """

    __slots__ = ("algorithm", "hex")

    def __init__(self, algorithm: str, hex: str) -> None:
        """Take parts that are known to be right; `parse` is for those that are not."""
        self.algorithm = algorithm
        self.hex = hex

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """Read `algorithm:hex`; raises InvalidArgument for anything but a registered algorithm and its exact length."""
        algorithm, _, encoded = text.partition(":")
        if len(encoded) != _LENGTHS.get(algorithm) or not _HEX.issuperset(encoded):
            hint = "write `sha256:` and 64 digits of 0-9 and a-f"
            raise InvalidArgument(f"`{text[:160]}` is not a digest", hints=(hint,))
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, content: "bytes | memoryview", algorithm: str = "sha256") -> "Digest":
        """Return the digest of `content`."""
        hasher = new_hasher(algorithm)
        hasher.update(content)
        return cls(algorithm, hasher.hexdigest())

    def hasher(self) -> "_Hash":
        """Return a fresh hash object of this digest's algorithm."""
        return new_hasher(self.algorithm)

    def verify(self, content: "bytes | memoryview", subject: str) -> None:
        """Raise Corrupt, naming `subject`, unless `content` has this digest."""
        self.verify_hash(Digest.of(content, self.algorithm).hex, subject)

    def verify_hash(self, found: str, subject: str) -> None:
        """Raise Corrupt, naming `subject`, unless `found`, hexadecimal, is this digest's value."""
        if found != self.hex:
            raise Corrupt(f"{subject} is not what its digest says: expected `{self}`, found `{self.algorithm}:{found}`")

    def __str__(self) -> str:
        """Print `algorithm:hex`."""
        return f"{self.algorithm}:{self.hex}"

    def __repr__(self) -> str:
        """Print as for a person who debugs."""
        return f"Digest({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        """Compare both parts."""
        return isinstance(other, Digest) and (self.algorithm, self.hex) == (other.algorithm, other.hex)

    def __lt__(self, other: "Digest") -> bool:
        """Order as the texts are ordered."""
        return str(self) < str(other)

    def __hash__(self) -> int:
        """Hash both parts."""
        return hash((self.algorithm, self.hex))


def new_hasher(algorithm: str = "sha256") -> "_Hash":
    """Return a fresh hash object."""
    # Costs 2 ms, and looking an image up needs none of it.
    import hashlib

    return hashlib.new(algorithm)


def chain_ids(diff_ids: "Sequence[Digest]") -> "tuple[Digest, ...]":
    """Return for each layer, lowest first, the name of it on all below it (image-spec config.md#layer-chainid)."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(Digest.of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)
