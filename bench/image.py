"""The image of the example: its size unpacked and compressed, read from what `save` writes."""

import gzip
import io
import json
import tarfile

from bench.measure import Result
from bench.rebuild import prepare
from bench.side import Side

MEGABYTE = 1000 * 1000


def image(sides: list[Side], rounds: int) -> list[Result]:
    """Save each side's image and add its layers up; once, since sizes do not vary."""
    del rounds
    sizes = {side.name: _sizes(side) for side in sides}
    goals = {"unpacked": "at most 60 MB", "compressed": "at most 22 MB"}
    results = []
    for number, (kind, goal) in enumerate(goals.items()):
        figures = {name: (size[number] / MEGABYTE,) for name, size in sizes.items()}
        results.append(Result(name=f"the example's image, {kind}", unit="MB", goal=goal, figures=figures))
    return results


def _sizes(side: Side) -> tuple[int, int]:
    """Return the bytes of all files in an image, and of its layers compressed."""
    prepare(side)
    path = f"{side.place}/{side.name}-image.tar"
    side.ask("save", "-o", path, "bench-hello")
    with tarfile.open(path) as archive:
        layers = [_read(archive, name) for name in json.loads(_read(archive, "manifest.json"))[0]["Layers"]]
    packed = [layer if layer[:2] == b"\x1f\x8b" else gzip.compress(layer, 6) for layer in layers]
    return sum(map(_unpacked, packed)), sum(map(len, packed))


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    """Return one member's bytes."""
    file = archive.extractfile(name)
    return file.read() if file else b""


def _unpacked(layer: bytes) -> int:
    """Return the bytes of the files in a compressed layer."""
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        return sum(member.size for member in tar)
