"""What the executors of a Dockerfile's vertices work with: the layers below a vertex, its context, its origin. Hot.

Bases are images of the store; their layers are no vertices, since nothing here makes them. A vertex says by the chain
id in its options which base is under it.
"""

from sampan.build.cache import Result
from sampan.build.pick import Picker
from sampan.build.tree import Directory, Layers
from sampan.errors import Internal
from sampan.oci.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.build.graph import Vertex
    from sampan.build.ignore import Rules
    from sampan.build.workshop import Workshop
    from sampan.errors import Place
    from sampan.image.store import Image


class Stock:
    """One build's bases, context and layers. `places` says where in the file each vertex stands."""

    __slots__ = ("_images", "_trees", "context", "picker", "places", "workshop")

    def __init__(self, workshop: "Workshop", context: Directory, rules: "Rules") -> None:
        self.workshop = workshop
        self.context = context
        self.picker = Picker(context, "the build context", rules)
        self.places: dict[Digest, Place] = {}
        self._images: dict[str, Image] = {}
        self._trees: dict[tuple[str, ...], Layers] = {}

    def add(self, image: "Image") -> str:
        """Take a base in; return its chain id, `""` for one without layers."""
        self.workshop.lease.hold(f"image:{image.id}")
        chain_id = image.chain_ids[-1] if image.chain_ids else ""
        self._images[chain_id] = image
        return chain_id

    def base(self, chain_id: str) -> list[Result]:
        """Return the layers of a base, lowest first."""
        if not chain_id:
            return []
        if chain_id not in self._images:
            raise Internal("a vertex stands on a base that nobody brought")
        image = self._images[chain_id]
        pairs = zip(image.layers, image.diff_ids, strict=True)
        return [Result(digest, Digest.parse(diff_id), 0, {}) for digest, diff_id in pairs]

    def below(self, vertex: "Vertex", results: "Sequence[Result]") -> list[Result]:
        """Return all layers that a vertex stands on, lowest first."""
        return [*self.base(vertex.options["base"]), *_filled(results[: vertex.options["below"]])]

    def positions(self, vertex: "Vertex", results: "Sequence[Result]", wanted: "Sequence[int]") -> list[int]:
        """Return where in `below` the layers are that stand at `wanted` of the results, none of which is empty."""
        start = len(self.base(vertex.options["base"]))
        return [start + len(_filled(results[:position])) for position in wanted]

    def origin(self, vertex: "Vertex", results: "Sequence[Result]") -> list[Result]:
        """Return all layers that COPY --from takes from, lowest first."""
        return [*self.base(vertex.options["origin"]), *_filled(results[vertex.options["below"] :])]

    def slice(self, chain_id: str, results: "Sequence[Result]") -> list[Result]:
        """Return the layers of a base with `results` above it."""
        return [*self.base(chain_id), *_filled(results)]

    def tree(self, layers: "Sequence[Result]") -> Layers:
        """Return layers as one tree of files, unpacking what is not unpacked."""
        key = tuple(str(layer.diff_id) for layer in layers)
        if key not in self._trees:
            self._trees[key] = Layers(self.workshop.lowers(layers) if layers else ())
        return self._trees[key]

    def place(self, vertex: "Vertex") -> "Place":
        """Return where the vertex stands in the Dockerfile."""
        return self.places[vertex.digest]


def is_empty(result: Result) -> bool:
    """Tell whether a vertex came to nothing, so that the image needs no layer for it."""
    return bool(result.record.get("empty"))


def _filled(results: "Sequence[Result]") -> list[Result]:
    return [result for result in results if not is_empty(result)]
