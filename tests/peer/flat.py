"""What an image archive says, read without Sampan's own code: the config, and the layers laid over each other."""

import hashlib
import json
import tarfile
from dataclasses import dataclass, field
from typing import Any

_KINDS = {tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.FIFOTYPE: "p", tarfile.CHRTYPE: "c"}


@dataclass(eq=False)
class _Node:
    """One inode; hard links share it."""

    text: str
    names: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Flat:
    """An image: its config document, and one line for each path of its root file system (no times)."""

    document: dict[str, Any]
    files: dict[str, str]

    def history(self) -> list[str]:
        """Return what made each entry above the base's."""
        return [item["created_by"] for item in self.document["history"] if ".dockerfile." in item.get("comment", "")]


def read(path: str) -> Flat:
    """Read the only image of an archive that `save` wrote."""
    with tarfile.open(path) as archive:
        manifest = json.loads(_read(archive, "manifest.json"))[0]
        nodes: dict[str, _Node] = {}
        for name in manifest["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(name)) as layer:
                _lay(nodes, layer)
        config = json.loads(_read(archive, manifest["Config"]))
    return Flat(config, {name: _line(node) for name, node in sorted(nodes.items())})


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None, name
    return file.read()


def _lay(nodes: dict[str, _Node], layer: tarfile.TarFile) -> None:
    """Lay one layer over what is there: first what it takes away, then what it brings."""
    plain = []
    for member in layer.getmembers():
        above, _, name = member.name.rstrip("/").removeprefix("./").rpartition("/")
        if name == ".wh..wh..opq":
            _remove(nodes, above, itself=False)
        elif name.startswith(".wh."):
            _remove(nodes, f"{above}/{name[4:]}".lstrip("/"))
        else:
            plain.append(member)
    for member in plain:
        name = member.name.strip("/").removeprefix("./")
        target = member.linkname.strip("/").removeprefix("./")
        node = nodes[target] if member.islnk() else _Node(_text(layer, member))
        if name in nodes and not (member.isdir() and nodes[name].text.startswith("d")):
            _remove(nodes, name)
        elif name in nodes:
            nodes[name].names.discard(name)
        node.names.add(name)
        nodes[name] = node


def _remove(nodes: dict[str, _Node], name: str, *, itself: bool = True) -> None:
    """Remove a path and what lies below it."""
    for found in [found for found in nodes if (itself and found == name) or found.startswith(f"{name}/")]:
        nodes.pop(found).names.discard(found)


def _text(layer: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    kind = _KINDS.get(member.type, "f")
    tail = member.linkname
    if kind == "f":
        file = layer.extractfile(member)
        assert file is not None
        tail = f"{member.size} {hashlib.sha256(file.read()).hexdigest()[:12]}"
    # The mode of a link says nothing.
    mode = 0o777 if kind == "l" else member.mode & 0o7777
    return f"{kind} {mode:04o} {member.uid}:{member.gid} {tail}".rstrip()


def _line(node: _Node) -> str:
    return node.text if len(node.names) == 1 else f"{node.text} = {' '.join(sorted(node.names))}"
