"""What a start needs, gathered by the command: image, layers, ids, network, volumes, user; and from it the monitor's request.

Two halves, for what is handed out must be recorded in one transaction: `find_image` before it, `container` and `lease`
inside it, `request` after it. Hot path.
"""

import os
import time

from sampan.engine import connection as links
from sampan.engine import fault, idrange, record, specification, state, user, volume
from sampan.engine.record import Container
from sampan.errors import Internal, InvalidArgument, NotFound, Unsupported
from sampan.image.store import Images
from sampan.kernel import syscalls
from sampan.runtime import idmap, rootfs
from sampan.storage import overlay
from sampan.storage.snapshot import Snapshots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.database.connection import Database
    from sampan.document import Document
    from sampan.engine.run_options import RunOptions
    from sampan.image.store import Image
    from sampan.settings.configuration import Settings

PROFILE_BYTES = 1024 * 1024
# docker's default where nobody named the container: an adjective and somebody's name; ours are boats and waters.
_QUALITIES = (
    "able bold brave bright calm clever deft eager fair fleet fresh gentle glad grand keen kind light lively loyal lucid "
    "merry mild neat nimble noble patient placid plain polite prompt proud quick quiet ready serene sharp silent sleek "
    "smart smooth sound spry steady still stout sturdy sure swift tidy trim true trusty vivid warm wise witty young zesty"
).split()
_BOATS = (
    "barge bark brig canoe caravel catboat clipper cog coracle curragh cutter dhow dinghy dory felucca ferry galley galleon "
    "gig gondola hooker houri junk kayak keelboat ketch knarr launch lighter longship lugger packet pinnace pontoon pram "
    "punt raft sampan schooner scow scull shallop shikara skiff skipjack sloop smack tartane tender tjalk trimaran trireme "
    "umiak wherry xebec yacht yawl"
).split()


class Found:
    """An image that is here, and how its files reach a container on this file system."""

    __slots__ = ("features", "image", "lowers")

    def __init__(self, image: "Image", lowers: tuple[str, ...], features: idmap.Features) -> None:
        self.image = image
        self.lowers = lowers
        self.features = features


class Leased:
    """What the transaction of a start handed out: the ids (None without a user namespace) and the network's part."""

    __slots__ = ("network", "range")

    def __init__(self, range: idmap.Range | None, network: "Document") -> None:
        self.range = range
        self.network = network


def find_image(database: "Database", settings: "Settings", options: "RunOptions") -> Found:
    """Return the image that the options name, all its layers unpacked; raises NotFound, Unsupported."""
    specification.check(options, syscalls.MACHINE)
    return _found(database, settings, options, options.image)


def container(database: "Database", settings: "Settings", options: "RunOptions", found: Found) -> Container:
    """Return a new container with an id, a name, its Config and its volumes; the caller records it."""
    image_config = found.image.config.get("config") or {}
    config = specification.merged(options, image_config)
    # What can be known to be wrong is said before anything is recorded.
    specification.resources(options, _processors())
    specification.capabilities(options)
    id = record.new_id(settings)
    return Container(
        id,
        options.name or _free_name(database, id),
        found.image.id,
        time.time_ns(),
        options=options,
        config=config,
        volumes=volume.complete(options.volumes, config["Volumes"] or {}),
    )


def lease(database: "Database", settings: "Settings", container: Container) -> Leased:
    """Hand out ids and an address; the caller holds a write transaction. They are freed by `sweep`."""
    range = None
    if has_userns(settings, container.options) and settings.uid == 0:
        is_shifted = _features(settings).overlay_recipe == idmap.NONE
        range = idrange.shared() if is_shifted else idrange.allocate(database, container.id)
    return Leased(range, links.lease(database, container))


def has_userns(settings: "Settings", options: "RunOptions") -> bool:
    """Tell whether the container gets a user namespace: unless somebody said `host`, or `--privileged`, which implies it."""
    if options.privileged or options.userns == "host":
        return False
    return bool(options.userns) or settings.userns != "host"


def request(
    database: "Database", settings: "Settings", container: Container, leased: Leased, window: tuple[int, int] | None
) -> "Document":
    """Return the start request; volumes are filled and the container's directory has all it needs."""
    found = _found(database, settings, container.options, container.image_id)
    directory = state.directory(settings, container.id)
    paths = overlay.root_source(found.lowers, directory)
    volumes, who = _look_inside(database, settings, container, found, paths.upper)
    mappings = leased.range.mappings() if leased.range is not None else ()
    is_idmapped = bool(mappings) and found.features.overlay_recipe != idmap.NONE
    place = specification.Place(
        container.id,
        directory=directory,
        hostname=container.options.hostname or container.short_id,
        mappings=mappings,
        files_are_idmapped=is_idmapped,
        volumes=volumes,
        processors=_processors(),
    )
    options = container.options
    spec = specification.build(options, container.config, place, who)
    return {
        "fault": fault.chosen(settings),
        "id": container.id,
        "directory": directory,
        "run_directory": state.run_directory(settings, container.id),
        "boot_id": state.boot_id(),
        "spec": spec.document(),
        "root": {
            "lowers": list(paths.lowers),
            "upper": paths.upper,
            "work": paths.work,
            "is_idmapped": is_idmapped,
            "userxattr": settings.uid != 0,
            "features": {name: getattr(found.features, name) for name in found.features.__slots__},
        },
        "etc": {
            "hostname": place.hostname,
            "address": leased.network.get("address", ""),
            "gateway": leased.network.get("gateway", ""),
            "is_host_network": options.network == "host",
            "add_host": list(options.add_host),
            "dns": list(options.dns),
            "dns_search": list(options.dns_search),
            # Where nothing can be idmapped the container's root owns its files on disk.
            "owner": mappings[0].host_id if mappings and not is_idmapped else 0,
        },
        "network": leased.network,
        "seccomp": "unconfined" if options.privileged else options.seccomp,
        "seccomp_profile": seccomp_profile(options),
        "runtime": options.runtime or settings.runtime,
        "interactive": options.interactive,
        "is_stdin_once": options.interactive and not options.detach and not options.tty,
        "window": list(window or ()),
        "stop_signal": specification.stop_signal(container.config),
        "auto_remove": options.auto_remove,
    }


def seccomp_profile(options: "RunOptions") -> "Document | None":
    """Read the profile that `--security-opt seccomp=FILE` names; None for the default one and for none at all."""
    if options.privileged or options.seccomp in {"", "unconfined"}:
        return None
    try:
        with open(options.seccomp, "rb") as file:
            content = file.read(PROFILE_BYTES + 1)
    except OSError as error:
        raise NotFound(f"the seccomp profile `{options.seccomp}` cannot be read") from error
    import json  # only here: the error then says where in the file it is

    try:
        document = json.loads(content) if len(content) <= PROFILE_BYTES else None
    except ValueError as error:
        raise InvalidArgument(f"the seccomp profile `{options.seccomp}` is not JSON") from error
    if not isinstance(document, dict):
        raise InvalidArgument(f"the seccomp profile `{options.seccomp}` is not one JSON object of at most {PROFILE_BYTES} bytes")
    return document


def _found(database: "Database", settings: "Settings", options: "RunOptions", name: str) -> Found:
    image = Images(database).find(name)
    features = _features(settings)
    if settings.idmap == "idmap" and features.overlay_recipe == idmap.NONE:
        raise Unsupported(
            f"the file system of `{settings.root}` cannot be idmapped, and `idmap` says that it must",
            hints=("set `idmap = \"auto\"`, which unpacks images once more with shifted ids",),
        )
    shift = 0
    if has_userns(settings, options) and settings.uid == 0 and features.overlay_recipe == idmap.NONE:
        shift = idrange.shared().start
    snapshots = Snapshots(database)
    lowers = snapshots.lookup(image.chain_ids, shift)
    if lowers is None:
        lowers = _unpack(database, settings, snapshots, image, shift)
    return Found(image, lowers, features)


def _unpack(database: "Database", settings: "Settings", snapshots: Snapshots, image: "Image", shift: int) -> tuple[str, ...]:
    """Unpack what is not: the first container of an image."""
    from sampan.database.lease import Lease
    from sampan.image.content import Content
    from sampan.storage.unpacker import Rules

    content = Content(settings.root)
    layers = [
        (diff_id, lambda digest=digest: content.open(digest))
        for diff_id, digest in zip(image.diff_ids, image.layers, strict=True)
    ]
    rules = Rules(
        shift=shift,
        single_id=settings.uid != 0 and _is_single_id(),
        userxattr=settings.uid != 0,
    )
    with Lease(database, "run") as lease:
        lease.hold(f"image:{image.id}")
        return snapshots.ensure(layers, rules=rules, lease=lease)


def _is_single_id() -> bool:
    with open("/proc/self/uid_map") as file:
        lines = file.read().split()
    return len(lines) == 3 and lines[2] == "1"


def _look_inside(
    database: "Database", settings: "Settings", container: Container, found: Found, upper: str
) -> "tuple[tuple[volume.VolumeMount, ...], user.User]":
    """Open the root for reading, as the container will see it: whose process it is, and what fills its volumes."""
    source = rootfs.RootSource((upper, *found.lowers), is_idmapped=False)
    root_fd = rootfs.open_root(source, None, found.features, userxattr=settings.uid != 0)
    try:
        who = user.resolve(root_fd, container.config["User"], container.options.group_add)
        volumes = volume.prepare(database, settings, container.volumes, root_fd, container.created)
    finally:
        os.close(root_fd)
    return volumes, who


def _features(settings: "Settings") -> idmap.Features:
    os.makedirs(settings.run, 0o700, exist_ok=True)
    os.makedirs(settings.root, 0o700, exist_ok=True)
    forced = idmap.NONE if settings.idmap == "shift" else "auto"
    return idmap.probe(settings.root, f"{settings.run}/features.json", forced=forced)


def _free_name(database: "Database", id: str) -> str:
    """Return a name that no container has, from the id's digits: the same id gives the same name."""
    number = int(id[:16], 16)
    for attempt in range(100):
        count = len(_QUALITIES) * len(_BOATS)
        quality, boat = divmod((number + attempt * 7919) % count, len(_BOATS))
        name = f"{_QUALITIES[quality]}_{_BOATS[boat]}" + (str(attempt) if attempt > 20 else "")
        if database.row("SELECT 1 FROM containers WHERE name = ?", (name,)) is None:
            return name
    raise Internal("no free name was found for the container")


def _processors() -> int:
    """Return how many processors this command may use."""
    return len(os.sched_getaffinity(0))
