"""The OCI bundle on disk, for runtimes that are not ours: a directory with config.json. runtime-spec bundle.md."""

import os

from sampan import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.oci.runtime import Spec

CONFIG = "config.json"
# config-linux.md#allowed-device-list: what no rule allows is denied; a runtime adds the default devices itself.
_DENY_ALL: "Document" = {"allow": False, "access": "rwm"}


def write(directory: str, spec: "Spec") -> None:
    """Write `spec` as config.json of the bundle `directory`, atomically."""
    config = document_of(spec)
    temporary = f"{directory}/.{CONFIG}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(document.render(config))
    os.rename(temporary, f"{directory}/{CONFIG}")


def document_of(spec: "Spec") -> "Document":
    """Return config.json with the rules about devices that our own runtime needs no words for."""
    config = spec.document()
    allowed = [
        {"allow": True, "type": d.kind, "major": d.major, "minor": d.minor, "access": "rwm"} for d in spec.devices
    ]
    # Rules of a person's are there already, and begin alike.
    config["linux"]["resources"].setdefault("devices", [_DENY_ALL, *allowed])
    return config
