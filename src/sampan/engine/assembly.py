"""The monitor's part of the preparation: from its request to the specification of what runs. Hot path."""

import os

from sampan.engine import specification
from sampan.engine.config import KEEP_ID
from sampan.engine.run_options import RunOptions, VolumeMount
from sampan.oci.runtime import IdMapping, Spec
from sampan.runtime import idmap, rootfs, user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.engine.partner import Partners
    from sampan.settings.configuration import Settings


def features(settings: "Settings") -> idmap.Features:
    """Return what the file system of SAMPAN_ROOT can do."""
    return idmap.features(settings)


def spec(request: "Document", partners: "Partners | None" = None) -> Spec:
    """Return what runs; raises InvalidArgument for a user who is not in the image.

    `partners` are the containers whose namespaces it joins.
    """
    options, root = RunOptions.parse(request["options"]), request["root"]
    root_fd = open_root_to_read(root)
    try:
        who = user.resolve(root_fd, request["config"]["User"], options.group_add)
    finally:
        os.close(root_fd)
    if partners is not None and partners.uid_mappings:
        uid_mappings, gid_mappings = partners.mappings()
    else:
        uid_mappings = _id_mappings(request, "uid_map", who.uid)
        gid_mappings = _id_mappings(request, "gid_map", who.gid)
    place = specification.Place(
        request["id"],
        directory=request["directory"],
        hostname=request["hostname"],
        uid_mappings=uid_mappings,
        gid_mappings=gid_mappings,
        files_are_idmapped=root["is_idmapped"],
        binds_are_idmapped=request["range"] != 0,
        volumes=tuple(VolumeMount.parse(mount) for mount in request["volumes"]),
        processors=request["processors"],
        init=request["init"],
        devices=request["devices"],
        joined={} if partners is None else partners.paths,
        etc=etc_directory(request),
    )
    return specification.build(options, request["config"], place, user.within(who, uid_mappings))


def _id_mappings(request: "Document", name: str, own: int) -> tuple[IdMapping, ...]:
    """Return one of the container's id maps; nothing without a user namespace of its own. `own` is the process's id."""
    if not request["has_userns"]:
        return ()
    if request["range"]:
        return idmap.Range(request["range"]).mappings()
    if request["options"]["userns"] == KEEP_ID:
        return idmap.kept(name)
    return idmap.inherited(name, own)


def etc_directory(request: "Document") -> str:
    """Return where the files of /etc are: they go with the network, so they may be another container's."""
    return str((request["joined"] or {}).get("etc") or request["directory"])


def etc(request: "Document") -> "Document":
    """Return what `etc.files` takes."""
    options, network = request["options"], request["network"]
    return {
        "hostname": request["hostname"],
        "domainname": request["config"].get("Domainname", ""),
        "addresses": [endpoint["address"] for endpoint in network["endpoints"]],
        "gateway": next((e["gateway"] for e in network["endpoints"] if e["gateway"]), ""),
        "is_host_network": network["kind"] == "host",
        "add_host": options["add_host"],
        "has_resolver": network["dns"] is not None,
        "dns": options["dns"],
        "dns_search": options["dns_search"],
        "dns_option": options["dns_option"],
    }


def owner(request: "Document") -> int:
    """Return whose the files are on disk that belong to the container's root."""
    # Where nothing can be idmapped the container's root owns its files on disk.
    return 0 if request["root"]["is_idmapped"] else int(request["range"])


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
