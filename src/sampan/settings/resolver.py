"""The machine's name servers, as resolv.conf(5) has them: what a container is given, and whom no network may hide."""

# Where a stub on loopback is all that the first names, systemd-resolved keeps the real ones in the second.
FILES = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
_FILE_BYTES = 64 * 1024


def read(path: str) -> list[str]:
    """Return the lines of a resolv.conf; none where it is not there."""
    try:
        with open(path, "rb") as file:
            return file.read(_FILE_BYTES).decode("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []


def server_of(line: str) -> str | None:
    """Return the name server that `line` names, if it is one that others than this machine can reach too."""
    words = line.split()
    if len(words) < 2 or words[0] != "nameserver" or words[1].startswith("127.") or words[1] == "::1":
        return None
    return words[1]


def own_servers() -> tuple[str, ...]:
    """Return the addresses of the name servers that this machine itself asks, those on loopback too."""
    words = [line.split() for line in read(FILES[0])]
    return tuple(dict.fromkeys(word[1] for word in words if len(word) > 1 and word[0] == "nameserver"))


def name_servers() -> tuple[str, ...]:
    """Return the addresses, IPv4 and IPv6, of all name servers of this machine but those on loopback."""
    found = (server_of(line) for path in FILES for line in read(path))
    return tuple(dict.fromkeys(server for server in found if server is not None))
