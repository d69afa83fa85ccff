"""The monitor's part of the preparation: from its request to the specification of what runs. Hot path."""

import os

from sampan.engine import specification, user
from sampan.engine.run_options import RunOptions, VolumeMount
from sampan.oci.runtime import IdMapping, Spec
from sampan.runtime import idmap, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.settings.configuration import Settings


def features(settings: "Settings") -> idmap.Features:
    """Return what the file system of SAMPAN_ROOT can do: tried once, then read from SAMPAN_RUN."""
    os.makedirs(settings.run, 0o700, exist_ok=True)
    os.makedirs(settings.root, 0o700, exist_ok=True)
    forced = idmap.NONE if settings.idmap == "shift" else "auto"
    return idmap.probe(settings.root, f"{settings.run}/features.json", forced=forced)


def spec(request: "Document") -> Spec:
    """Return what runs; raises InvalidArgument for a user who is not in the image."""
    options, root = RunOptions.parse(request["options"]), request["root"]
    mappings = id_mappings(request)
    place = specification.Place(
        request["id"],
        directory=request["directory"],
        hostname=request["hostname"],
        mappings=mappings,
        files_are_idmapped=root["is_idmapped"],
        volumes=tuple(VolumeMount.parse(mount) for mount in request["volumes"]),
        processors=request["processors"],
    )
    root_fd = open_root_to_read(root)
    try:
        who = user.resolve(root_fd, request["config"]["User"], options.group_add)
    finally:
        os.close(root_fd)
    return specification.build(options, request["config"], place, who)


def id_mappings(request: "Document") -> tuple[IdMapping, ...]:
    """Return the container's id map; nothing without a user namespace of its own."""
    if not request["has_userns"]:
        return ()
    if request["range"]:
        return idmap.Range(request["range"]).mappings()
    # A normal user: the ids that the holder's namespace has, as they are.
    with open("/proc/self/uid_map", encoding="ascii") as file:
        lines = [tuple(map(int, line.split())) for line in file]
    return tuple(IdMapping(inside, inside, size) for inside, _, size in lines)


def etc(request: "Document") -> "Document":
    """Return what `etc.write` takes."""
    options, network, root = request["options"], request["network"], request["root"]
    return {
        "hostname": request["hostname"],
        "address": network.get("address", ""),
        "gateway": network.get("gateway", ""),
        "is_host_network": options["network"] == "host",
        "add_host": options["add_host"],
        "dns": options["dns"],
        "dns_search": options["dns_search"],
        # Where nothing can be idmapped the container's root owns its files on disk.
        "owner": 0 if root["is_idmapped"] else request["range"],
    }


def open_root(root: "Document", userns_fd: int | None) -> int:
    """Return a detached mount of the container's root."""
    source = rootfs.RootSource(tuple(root["lowers"]), root["upper"], root["work"], is_idmapped=root["is_idmapped"])
    return rootfs.open_root(source, userns_fd, _features(root), userxattr=root["userxattr"])


def open_root_to_read(root: "Document") -> int:
    """Return a detached, read-only mount of what the container will see, with the ids that are on disk."""
    source = rootfs.RootSource((root["upper"], *root["lowers"]), is_idmapped=False)
    return rootfs.open_root(source, None, _features(root), userxattr=root["userxattr"])


def _features(root: "Document") -> idmap.Features:
    found = root["features"]
    return idmap.Features(
        found["overlay_recipe"],
        has_detached_overlay=found["has_detached_overlay"],
        has_idmapped_tmpfs=found["has_idmapped_tmpfs"],
    )
