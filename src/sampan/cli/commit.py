"""`sampan commit`: an image of what a container has become."""

import time

from sampan import journal
from sampan.cli import image as images
from sampan.cli.flags import Command, Flag, Parsed
from sampan.database import connection
from sampan.database.lease import Lease
from sampan.engine import committing, state
from sampan.errors import Internal
from sampan.image.change import config_with
from sampan.image.content import Content
from sampan.image.removal import collect
from sampan.image.store import Images
from sampan.oci import image as oci
from sampan.oci.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.build.cache import Result
    from sampan.cli.render import Printer
    from sampan.database.connection import Database
    from sampan.document import Document
    from sampan.engine.record import Container
    from sampan.image.store import Image
    from sampan.oci.reference import Reference
    from sampan.settings.configuration import Settings

# What of docker's Config an image keeps (image-spec config.md#properties, and docker's own).
_KEPT = (
    *("User", "Env", "Cmd", "Entrypoint", "Volumes", "WorkingDir", "Labels", "ExposedPorts", "StopSignal"),
    *("Healthcheck", "Shell"),
)
_MERGED = ("Env", "Labels", "ExposedPorts", "Volumes")


def commit(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Make the image and print its id."""
    from sampan.build import change  # half of a build's code

    reference = images.parse_name(parsed.arguments[1]) if len(parsed.arguments) > 1 else None
    config_with(parsed.words("change"))  # a mistake is told before anything is held
    is_paused = parsed.values.get("pause") is not False
    with committing.hold(settings, parsed.arguments[0], pause=is_paused) as held, connection.open(settings) as database:
        try:
            with Lease(database, "commit") as lease:
                content = Content(database.root, lease)
                stubs = change.Stubs(held.made, held.touched)
                layer = change.write(content, held.upper, stubs, shift=held.shift)
                made = _image(parsed, database, content, held.container, layer, reference=reference)
            name = reference.familiar() if reference else ""
            told = {"comment": parsed.text("message"), "imageID": made.id, "imageRef": name}
            journal.note(database.root, "commit", held.container.id, held.container.attributes | told)
        except BaseException:
            collect(database)
            raise
    printer.out(made.id)
    return 0


def _image(
    parsed: Parsed,
    database: "Database",
    content: Content,
    container: "Container",
    layer: "Result",
    *,
    reference: "Reference | None",
) -> "Image":
    """Record the image: the container's layers and one more."""
    below = Images(database).find(container.image_id)
    created = state.timestamp(time.time_ns())
    words = {"created": created, "created_by": " ".join(container.arguments), "comment": parsed.text("message")}
    if parsed.text("author"):
        words["author"] = parsed.text("author")
    if layer.diff_id is None:
        raise Internal("a layer that was just written has no diff-id")
    config = oci.build_config(
        [*map(Digest.parse, below.diff_ids), layer.diff_id],
        platform=oci.parse_config(below.config_text.encode()).platform,
        settings=_settings(container.config, parsed.words("change")),
        history=[*(below.config.get("history") or ()), {key: word for key, word in words.items() if word}],
        created=created,
        author=parsed.text("author"),
    )
    layers = oci.parse_manifest(content.read(below.manifest, oci.MAX_MANIFEST_BYTES)).layers
    top = layer.descriptor()
    descriptor = oci.Descriptor(oci.OCI_CONFIG, Digest.of(config.raw), len(config.raw))
    manifest = oci.build_manifest(descriptor, [*layers, top])
    return Images(database).add(config.raw, manifest.raw, content, reference)


def _settings(config: "Document", changes: list[str]) -> "Document":
    """Return the image's config: the container's, with the changes over it."""
    own = {key: config[key] for key in _KEPT if config.get(key)}
    changed = config_with(changes, {key: own[key] for key in _MERGED if key in own})
    if "Entrypoint" in changed and "Cmd" not in changed:
        own.pop("Cmd", None)  # as in a Dockerfile
    return own | changed


COMMANDS = (
    Command(
        "commit",
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        "Make an image of what a container has become",
        execute=commit,
        flags=(
            Flag("author", "string", "who made it", short="a"),
            Flag("change", "list", 'apply an instruction such as `CMD ["sh"]` or `ENV A=b`', short="c"),
            Flag("message", "string", "write a message into the image's history", short="m"),
            Flag("pause", "bool", "pause it meanwhile, where that is possible (the default)", short="p"),
        ),
        minimum=1,
        maximum=2,
        text="Volumes are no part of it. A Dockerfile makes an image that can be made again.",
        examples=("sampan commit web web:changed", "sampan commit -c 'CMD [\"sh\"]' -m 'by hand' web web:2"),
    ),
)
