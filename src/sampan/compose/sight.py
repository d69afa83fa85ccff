"""What of a project is on this machine: its containers, by its labels."""

from sampan.compose import label
from sampan.engine import inspection, volume
from sampan.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.settings.configuration import Settings

RUNNING, RESTARTING, EXITED, CREATED, PAUSED = "running", "restarting", "exited", "created", "paused"


@frozen
class Seen:
    """One container as it was seen; `row` is what `ps` knows of it (inspection.summaries)."""

    id: str
    name: str
    service: str
    number: int
    is_one_off: bool
    state: str
    digest: str
    image_id: str
    row: "Document"

    @property
    def is_running(self) -> bool:
        """Return whether its command runs, or will again by itself; a paused one does, as docker counts."""
        return self.state in {RUNNING, RESTARTING, PAUSED}

    @property
    def anonymous(self) -> dict[str, str]:
        """Return its volumes that nobody named, by where they are mounted."""
        return {
            mount["Destination"]: mount["Name"]
            for mount in self.row["Mounts"]
            if mount["Type"] == "volume" and volume.is_anonymous(mount["Name"])
        }


def containers(settings: "Settings", project_name: str) -> list[Seen]:
    """Return the project's containers, one-off ones too, by service and number."""
    found = [_seen(row) for row in _rows(settings) if row["Labels"][label.PROJECT] == project_name]
    return sorted(found, key=lambda seen: (seen.service, seen.number, seen.name))


def projects(settings: "Settings") -> dict[str, list[Seen]]:
    """Return every project of which there is a container."""
    found: dict[str, list[Seen]] = {}
    for row in _rows(settings):
        found.setdefault(row["Labels"][label.PROJECT], []).append(_seen(row))
    return dict(sorted(found.items()))


def _rows(settings: "Settings") -> "list[Document]":
    return [row for row in inspection.summaries(settings, all=True) if label.PROJECT in row["Labels"]]


def _seen(row: "Document") -> Seen:
    labels = row["Labels"]
    number = labels.get(label.NUMBER, "")
    return Seen(
        id=row["Id"],
        name=row["Names"][0],
        service=labels.get(label.SERVICE, ""),
        number=int(number) if number.isdecimal() else 0,
        is_one_off=labels.get(label.ONE_OFF) == "True",
        state=row["State"],
        digest=labels.get(label.DIGEST, ""),
        image_id=labels.get(label.IMAGE, ""),
        row=row,
    )
