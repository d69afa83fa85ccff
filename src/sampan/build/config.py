"""An image's config and manifest from a plan and its layers (image-spec config.md). Pure, hot, deterministic."""

from sampan.build.python import plan as plans
from sampan.oci import image as documents
from sampan.oci.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.build.cache import Result
    from sampan.build.graph import Vertex
    from sampan.build.python.plan import Plan
    from sampan.document import Document


def build(
    plan: "Plan",
    layers: "Sequence[tuple[Vertex, Result]]",
    *,
    architecture: str,
    created: str = documents.EPOCH,
) -> tuple[bytes, bytes]:
    """Return config and manifest, each as the bytes that have its digest; `layers` go from the lowest on."""
    diff_ids = [result.diff_id for _, result in layers if result.diff_id is not None]
    history = [{"created": created, "created_by": f"sampan build: {vertex.subject}"} for vertex, _ in layers]
    config = documents.build_config(
        diff_ids,
        platform=documents.Platform("linux", architecture),
        settings=_settings(plan),
        history=history,
        created=created,
    )
    descriptor = documents.Descriptor(documents.OCI_CONFIG, Digest.of(config.raw), len(config.raw))
    blobs = [result.descriptor() for _, result in layers]
    return config.raw, documents.build_manifest(descriptor, blobs).raw


def _settings(plan: "Plan") -> "Document":
    """Return the config's `config`, in docker's words."""
    found: Document = {
        "User": plans.USER,
        "Env": list(plan.environment),
        "Entrypoint": list(plans.ENTRYPOINT),
        "Cmd": list(plan.command),
        "WorkingDir": plans.WORKDIR,
        "Labels": _labels(plan),
        "StopSignal": "SIGTERM",
    }
    if plan.port:
        found["ExposedPorts"] = {f"{plan.port}/tcp": {}}
    return found


def _labels(plan: "Plan") -> dict[str, str]:
    labels = {
        "org.opencontainers.image.base.name": f"debian:{plan.release.suite}",
        "io.sampan.kind": "python",
        "io.sampan.python": plan.release.python,
    }
    # The engine then sets WEB_CONCURRENCY from the container's limits.
    return labels | {"io.sampan.workers": "auto"} if plan.is_served else labels
