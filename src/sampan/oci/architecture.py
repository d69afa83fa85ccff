"""What processors are called: uname(2)'s words on one side, Go's, and so OCI's and Debian's, on the other. Pure."""

# Those that Sampan runs on.
NAMES = {"x86_64": "amd64", "aarch64": "arm64"}


def name_of(machine: str) -> str:
    """Return what an image for `machine` says; a word that is not uname's stays as it is."""
    return NAMES.get(machine, machine)
