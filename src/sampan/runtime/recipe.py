"""How an overlay of idmapped layers is made here: the words that `rootfs` and `idmap` share."""

DETACHED, ATTACHED, NONE = "detached", "attached", "none"


class Features:
    """What the kernel can do for one file system.

    `overlay_recipe` is how an overlay of idmapped layers is made: `detached` (6.15 and newer), `attached`, or `none`
    where the file system cannot be idmapped. `has_detached_overlay` tells whether a layer may be given as a detached
    mount at all, idmapped or not. `has_idmapped_tmpfs` is true from 6.3 on.
    """

    __slots__ = ("has_detached_overlay", "has_idmapped_tmpfs", "overlay_recipe")

    def __init__(self, overlay_recipe: str, *, has_detached_overlay: bool, has_idmapped_tmpfs: bool) -> None:
        self.overlay_recipe = overlay_recipe
        self.has_detached_overlay = has_detached_overlay
        self.has_idmapped_tmpfs = has_idmapped_tmpfs
