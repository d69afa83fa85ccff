"""Storage: layers as directories. It emits paths that overlayfs can stack, and knows nothing of who mounts them.

Rooms: `snapshot` (which layer is unpacked where), `apply` (tar to directory: the parent's side), `unpacker` (the same,
inside the chroot), `tape` (reading tar), `diff` (writing tar), `compression`, `overlay` (paths of a container's root),
`trash` (removal that can be interrupted), `durable`, `space` (a full disk).
May import kernel, oci, database and the floors below.
"""
