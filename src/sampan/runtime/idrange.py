"""Which host ids a container's user namespace gets: one block of 65536 for each, from a reserved high range. Hot path.

Theory: /etc/subuid may give users ranges anywhere, and whoever has a range may, through newuidmap, become any id of it
and signal a container that runs with one. So a block that any of those files, passwd or group touches is never handed
out. The `ranges` table says which are in use; they are freed with the container's end.
"""

from sampan.errors import Exhausted, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.database.connection import Database

# The first block is the one that snapshots are shifted to where nothing can be idmapped (`shared`).
RANGE_SIZE = 65536
SHARED, FIRST, LAST = 0x6000_0000, 0x6001_0000, 0x7FFF_0000
FILE_BYTES = 1024 * 1024


def allocate(database: "Database", container_id: str, directory: str = "/etc") -> int:
    """Return the first id of a free block and record it for the container; raises Exhausted.

    The caller holds a write transaction.
    """
    taken = {row[0] for row in database.execute("SELECT start FROM ranges")} | _shared(database)
    foreign = _foreign(directory)
    for start in range(FIRST, LAST, RANGE_SIZE):
        if start not in taken and not _touches(start, foreign):
            database.execute("INSERT INTO ranges(start, container_id) VALUES (?, ?)", (start, container_id))
            return start
    raise Exhausted(
        "all ranges of host ids are in use", hints=("stop containers that are not needed, or run with `--userns=host`",)
    )


def shared(directory: str = "/etc") -> int:
    """Return the first id of the block that all containers share whose files are shifted on disk.

    Raises Unsupported where it is somebody's.
    """
    if _touches(SHARED, _foreign(directory)):
        raise Unsupported(
            f"the host ids from {SHARED} on belong to somebody in `/etc/subuid` or `/etc/passwd`",
            hints=(
                "run with `--userns=host`",
                "or move SAMPAN_ROOT to a file system that can be idmapped, such as ext4",
            ),
        )
    return SHARED


def _shared(database: "Database") -> set[int]:
    """Return the blocks that containers have from others whose namespaces they joined, and that may have ended since.

    Each says so in a file of its own, since the monitor that starts it again has no database.
    """
    ids = [row[0] for row in database.execute("SELECT id FROM containers WHERE active")]
    found = (_lines(f"{database.root}/containers/{id}/range") for id in ids)
    return {int(lines[0]) for lines in found if lines and lines[0].isdigit()}


def _touches(start: int, spans: list[tuple[int, int]]) -> bool:
    return any(first < start + RANGE_SIZE and start < end for first, end in spans)


def _foreign(directory: str) -> list[tuple[int, int]]:
    """Return the spans of ids above SHARED that somebody else has."""
    spans = []
    for name, field, count in (("subuid", 1, 2), ("subgid", 1, 2), ("passwd", 2, 0), ("group", 2, 0)):
        for line in _lines(f"{directory}/{name}"):
            fields = line.split(":")
            try:
                start = int(fields[field])
                size = int(fields[count]) if count else 1
            except (IndexError, ValueError):
                continue
            if start + size > SHARED:
                spans.append((start, start + size))
    return spans


def _lines(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            return file.read(FILE_BYTES).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
