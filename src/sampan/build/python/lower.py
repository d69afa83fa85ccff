"""From a plan and its pins to a graph, and from fragments to layers. Pure, hot.

Layers go by weight and by how often they change: the base; heavy wheels, one each, so that a new version of one does
not move the others; all light wheels together; the application on top. A registry and the kernel's overlay both want
few layers, hence the cap.
"""

from sampan.build.graph import Vertex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.build.cache import Result
    from sampan.build.lock import Wheel
    from sampan.build.python.plan import Plan
    from sampan.document import Document

HEAVY_BYTES = 1_000_000
MAX_HEAVY = 16
BASE, BYTECODE, WHEEL, WHEELS, APPLICATION = "debian", "bytecode", "wheel", "wheels", "application"


def base(plan: "Plan", manifest: "Document", version: int) -> Vertex:
    """Return the vertex of the base: it depends on the packages' hashes, not on what they are called."""
    options = {
        "layout": version,
        "python": plan.release.python,
        "architecture": manifest["architecture"],
        "packages": [[item["name"], item["sha256"]] for item in manifest["packages"]],
    }
    return Vertex(BASE, f"base {plan.release.suite}", options)


def bytecode(plan: "Plan", manifest: "Document", version: int) -> Vertex:
    """Return the vertex of the standard library's compiled files: it depends on the packages that hold it."""
    python = plan.release.python
    options = {
        "format": version,
        "python": python,
        "packages": [[item["name"], item["sha256"]] for item in manifest["packages"] if _is_python(item["name"])],
    }
    return Vertex(BYTECODE, "compiled standard library", options)


def wheels(plan: "Plan", pinned: "Sequence[Wheel]", manifest: "Document", version: int) -> list[Vertex]:
    """Return a vertex for each wheel's fragment. Its compiled files depend on the interpreter that made them."""
    architecture = manifest["architecture"]
    interpreter = [
        item["sha256"] for item in manifest["packages"] if item["name"] == f"python{plan.release.python}-minimal"
    ]
    return [
        Vertex(
            WHEEL,
            f"{wheel.name} {wheel.version}",
            {
                "format": version,
                "python": plan.release.python,
                "architecture": architecture,
                "interpreter": interpreter,
                **wheel.document(),
            },
        )
        for wheel in pinned
    ]


def pack(vertices: "Sequence[Vertex]", results: "Sequence[Result]") -> list[Vertex]:
    """Return a vertex for each layer that the wheels' fragments go into: heavy ones first, then all the light ones."""
    pairs = list(zip(vertices, results, strict=True))
    by_weight = sorted(pairs, key=lambda pair: (-pair[1].size_bytes, pair[0].subject))
    heavy = [vertex for vertex, result in by_weight if result.size_bytes >= HEAVY_BYTES][:MAX_HEAVY]
    heavy.sort(key=lambda vertex: vertex.subject)
    light = [vertex for vertex, _ in pairs if vertex not in heavy]
    layers = [Vertex(WHEELS, vertex.subject, {}, (vertex,)) for vertex in heavy]
    count = f"{len(light)} Python package{'s' * (len(light) != 1)}"
    return [*layers, Vertex(WHEELS, count, {}, tuple(light))] if light else layers


def _is_python(name: str) -> bool:
    return name.startswith(("python3", "libpython3"))
