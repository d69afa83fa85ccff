"""What a start needs, gathered by the command: image, layers, ids, network, volumes; and from it the monitor's request.

Two halves, for what is handed out must be recorded in one transaction: `find_image` before it, `container` and `lease`
inside it, `request` after it. What can be left to the monitor is (`assembly`): it has the runtime's code anyway. Hot
path.
"""

import os
import time

from sampan.engine import config as configs
from sampan.engine import connection as links
from sampan.engine import fault, profile, record, state, volume
from sampan.engine import name as names
from sampan.engine.record import Container
from sampan.errors import Unsupported
from sampan.identity import boot_id
from sampan.image.store import Images
from sampan.runtime import idrange
from sampan.storage import overlay
from sampan.storage.snapshot import Snapshots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from sampan.database.connection import Database
    from sampan.document import Document
    from sampan.engine.run_options import RunOptions
    from sampan.image.store import Image
    from sampan.runtime.recipe import Features
    from sampan.settings.configuration import Settings


class Ground:
    """What the file system of SAMPAN_ROOT can do, as the monitor found (`idmap.Features`): its answer to `ready`."""

    __slots__ = ("features", "is_idmappable")

    def __init__(self, features: "Document") -> None:
        self.features = features
        self.is_idmappable: bool = features["overlay_recipe"] != "none"

    @classmethod
    def of(cls, features: "Features") -> "Self":
        """Return the ground for a command that asks no monitor."""
        return cls({name: getattr(features, name) for name in type(features).__slots__})


class Leased:
    """What the transaction of a start handed out: the first of the ids (0 without a range) and the network's part.

    `joined` is what `joining.lease` returned, None where it joins nobody; `links` are those on the default network.
    """

    __slots__ = ("joined", "links", "network", "start")

    def __init__(self, start: int, network: "Document", joined: "Document | None", links: "list[Document]") -> None:
        self.start = start
        self.network = network
        self.joined = joined
        self.links = links


def find_image(database: "Database", options: "RunOptions") -> "Image":
    """Return the image that the options name, for a new container; raises NotFound, Unsupported, InvalidArgument."""
    configs.check(options, os.uname().machine, _processors())
    return Images(database).find(options.image)


def lowers(
    database: "Database", settings: "Settings", options: "RunOptions", image: "Image", ground: Ground
) -> tuple[str, ...]:
    """Return the directories of the image's layers, topmost first, all unpacked."""
    if settings.idmap == "idmap" and not ground.is_idmappable:
        raise Unsupported(
            f"the file system of `{settings.root}` cannot be idmapped, and `idmap` says that it must",
            hints=('set `idmap = "auto"`, which unpacks images once more with shifted ids',),
        )
    shift = idrange.shared() if _is_shifted(settings, options, ground) else 0
    found = Snapshots(database).lookup(image.chain_ids, shift)
    return found if found is not None else _unpack(database, settings, image, shift)


def container(database: "Database", settings: "Settings", options: "RunOptions", image: "Image") -> Container:
    """Return a new container with an id, a name, its Config and its volumes; the caller records it."""
    config = configs.merged(options, image.config.get("config") or {})
    own = options.volumes
    if options.volumes_from:
        own = (*own, *volume.inherited(database, options.volumes_from, own))
    if options.joined:
        from sampan.engine import joining  # few join another container

        options, other = joining.resolve(database, options)
        config |= other
    if options.userns == configs.KEEP_ID:
        _keep_id(settings, options, config)
    id = record.new_id(settings)
    return Container(
        id,
        options.name or names.choose(database, id),
        image.id,
        time.time_ns(),
        options=options,
        config=config,
        volumes=volume.complete(own, config["Volumes"] or {}),
    )


def _keep_id(settings: "Settings", options: "RunOptions", config: "Document") -> None:
    """Have the container's process run as the person who asks, unless somebody else was named."""
    from sampan.runtime import idmap

    if settings.uid == 0:
        raise Unsupported("`--userns=keep-id` is for a normal user", hints=("root has any user with `--user`",))
    if not options.user:
        config["User"] = f"{settings.uid}:{idmap.own_id('gid_map')}"


def lease(database: "Database", settings: "Settings", container: Container, ground: Ground) -> Leased:
    """Hand out ids and an address; the caller holds a write transaction. They are freed by `sweep`."""
    options, start, joined = container.options, 0, None
    if options.joined:
        from sampan.engine import joining

        joined = joining.lease(database, settings, container, has_userns=has_userns(settings, options))
    if joined is not None and joined["range"]:
        start = joined["range"]
        state.write_range(state.directory(settings, container.id), start)
    elif has_userns(settings, options) and settings.uid == 0:
        is_shifted = _is_shifted(settings, options, ground)
        start = idrange.shared() if is_shifted else idrange.allocate(database, container.id)
    network, linked = links.lease(database, container), []
    if options.links:
        from sampan.engine import joining

        linked = joining.links(database, container)
    if network["dns"] is not None:
        network["dns"]["aliases"] = {link["alias"]: link["id"][:12] for link in linked}
        linked = []
    return Leased(start, network, joined, linked)


def has_userns(settings: "Settings", options: "RunOptions") -> bool:
    """Tell whether it gets a user namespace: unless somebody said `host`, or `--privileged`, which implies it."""
    if options.privileged or options.userns == "host":
        return False
    return bool(options.userns) or settings.userns != "host"


def request(
    database: "Database",
    settings: "Settings",
    container: Container,
    *,
    leased: Leased,
    layers: tuple[str, ...],
    ground: Ground,
) -> "Document":
    """Return the start request; volumes are filled and the container's directory has all it needs."""
    options, directory = container.options, state.directory(settings, container.id)
    paths = overlay.root_source(layers, directory)
    root = {
        "lowers": list(paths.lowers),
        "upper": paths.upper,
        "work": paths.work,
        "is_idmapped": leased.start != 0 and ground.is_idmappable,
        "userxattr": settings.uid != 0,
        "features": ground.features,
    }
    state.forget_network(directory)
    volumes = volume.prepare(database, settings, container, lambda: _open_root(root))
    return {
        "fault": fault.chosen(settings),
        "id": container.id,
        "name": container.name,
        "directory": directory,
        "run_directory": state.run_directory(settings, container.id),
        "boot_id": boot_id(),
        "options": options.document(),
        "config": container.config,
        "hostname": container.hostname,
        "joined": leased.joined,
        "links": leased.links,
        "is_pid_shared": bool(options.pid),
        "processors": _processors(),
        "has_userns": has_userns(settings, options),
        "init": _init(settings, options),
        "devices": _devices(settings, options),
        "range": leased.start,
        "root": root,
        "volumes": [mount.document() for mount in volumes],
        "named_volumes": [[v.source, v.destination, not v.read_only] for v in container.volumes if v.kind == "volume"],
        "network": leased.network,
        "seccomp": "unconfined" if options.privileged else options.seccomp,
        "seccomp_profile": profile.read(options),
        "runtime": _runtime(settings, options),
        "interactive": options.interactive,
        "is_stdin_once": options.interactive and not options.detach and not options.tty,
        "stop_signal": configs.stop_signal(container.config),
        "auto_remove": options.auto_remove,
        "log": _log(container),
    }


def _log(container: Container) -> "Document | None":
    """Return what the log is beyond its defaults; None for none."""
    if not container.options.log_driver and not container.options.log_options:
        return {}
    from sampan.engine import log_words

    return log_words.plan(container)


def _is_shifted(settings: "Settings", options: "RunOptions", ground: Ground) -> bool:
    """Tell whether the container's files have shifted owners on disk: docker's way, where mounts cannot map ids."""
    return not ground.is_idmappable and settings.uid == 0 and has_userns(settings, options)


def _open_root(root: "Document") -> int:
    """Open the container's root for reading, to fill a volume from."""
    from sampan.engine import assembly

    return assembly.open_root_to_read(root)


def _runtime(settings: "Settings", options: "RunOptions") -> str:
    """Return the path of a foreign runtime, `""` for our own; raises NotFound."""
    name = options.runtime or settings.runtime
    if name in {"", "sampan"}:
        return ""
    from sampan.runtime import foreign

    return foreign.find(name, settings.environment.get("PATH", os.defpath))


def _init(settings: "Settings", options: "RunOptions") -> str:
    """Return the path of the init that was asked for, or `""`; raises NotFound."""
    if not options.init:
        return ""
    from sampan.engine import reaper

    return reaper.find(settings)


def _devices(settings: "Settings", options: "RunOptions") -> "Document":
    """Return what `devices.find` has; nothing is imported for a container without any."""
    if not (options.devices or options.device_cgroup_rules or options.privileged or _limits_devices(options)):
        return {}
    from sampan.engine import devices

    return devices.find(settings, options, has_userns=has_userns(settings, options))


def _limits_devices(options: "RunOptions") -> bool:
    """Tell whether a limit of one block device was asked for."""
    limits = (options.blkio_weight_device, options.device_read_bps, options.device_write_bps)
    return any((*limits, options.device_read_iops, options.device_write_iops))


def _unpack(database: "Database", settings: "Settings", image: "Image", shift: int) -> tuple[str, ...]:
    """Unpack what is not: the first container of an image."""
    from sampan.database.lease import Lease
    from sampan.image import unpack
    from sampan.runtime import holder
    from sampan.storage.unpacker import Rules

    rules = Rules(
        shift=shift,
        single_id=settings.uid != 0 and holder.is_single_id(),
        userxattr=settings.uid != 0,
    )
    with Lease(database, "run") as lease:
        return unpack.lowers(database, image, rules=rules, lease=lease)


def _processors() -> int:
    """Return how many processors this command may use."""
    return len(os.sched_getaffinity(0))
