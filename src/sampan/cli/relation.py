"""What `ps` needs a further look for: an image, a network, another container, sizes."""

from sampan.cli import resource
from sampan.database import connection
from sampan.engine import inspection, network, record
from sampan.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.settings.configuration import Settings


def chosen(settings: "Settings", rows: "list[Document]", filters: list[tuple[str, str]]) -> "list[Document]":
    """Return the rows that pass `ancestor`, `before`, `network` and `since`; raises NotFound for another container."""
    found = {(key, value): _ids(settings, key, value) for key, value in filters}

    def passes(row: "Document", key: str, value: str) -> bool:
        ids = found[(key, value)]
        match key:
            case "ancestor":
                return row["ImageID"] in ids
            case "network":
                return not ids.isdisjoint(row["NetworkSettings"]["Networks"])
            case _:
                return row["Id"] in ids

    return [row for row in rows if resource.passes(filters, lambda key, value, row=row: passes(row, key, value))]  # type: ignore[misc]  # binds early


def measure(settings: "Settings", rows: "list[Document]") -> None:
    """Add docker's SizeRw and SizeRootFs to the rows: the bytes that a container has written, and its image's too."""
    from sampan.engine import space

    sizes = space.sizes(settings, [(row["Id"], row["ImageID"]) for row in rows])
    for row in rows:
        row["SizeRw"], row["SizeRootFs"] = sizes[row["Id"]]


def _ids(settings: "Settings", key: str, value: str) -> set[str]:
    if key == "ancestor":
        return _images(settings, value)
    if key == "network":
        try:
            return {value, network.find(settings, value).name}
        except NotFound:
            return {value}
    # The newest is first; a container is neither before nor since itself.
    ids = [row["Id"] for row in inspection.summaries(settings, all=True)]
    at = ids.index(record.find(settings, value).id)
    return set(ids[at + 1 :]) if key == "before" else set(ids[:at])


def _images(settings: "Settings", value: str) -> set[str]:
    """Return the image that `value` means and all that stand on its layers; none where it is not here (docker)."""
    from sampan.image.store import Images

    with connection.open(settings) as database:
        images = Images(database)
        try:
            found = images.find(value)
        except NotFound:
            return set()
        own = found.diff_ids
        return {one.id for one in images.list() if one.id == found.id or (own and one.diff_ids[: len(own)] == own)}
