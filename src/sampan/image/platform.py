"""Which of an image's platforms is meant: `os/architecture[/variant]`, in Go's words. Pure."""

from sampan.errors import InvalidArgument, NotFound
from sampan.oci import architecture
from sampan.oci import image as oci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.reference import Reference

# What an architecture's plain name means.
_VARIANTS = {"arm64": "v8"}


def parse(text: str) -> oci.Platform:
    """Read `os/architecture[/variant]`, docker's `--platform`; raises InvalidArgument."""
    parts = text.split("/")
    if not 1 <= len(parts) <= 3 or not all(part.isascii() and part.isalnum() for part in parts):
        raise InvalidArgument(f"`{text[:100]}` is no platform", hints=("write it like `linux/amd64` or `linux/arm64`",))
    if len(parts) == 1:
        parts = ["linux", *parts]
    return oci.Platform(parts[0], architecture.name_of(parts[1]), parts[2] if len(parts) == 3 else "")


def text(platform: oci.Platform) -> str:
    """Print a platform as people write it."""
    return "/".join(part for part in (platform.os, platform.architecture, platform.variant) if part)


def fits(found: oci.Platform, wanted: oci.Platform) -> bool:
    """Tell whether an image for `found` is one for `wanted`: a variant counts where one was asked for."""
    same = (found.os, found.architecture) == (wanted.os, wanted.architecture)
    return same and (not wanted.variant or (found.variant or _VARIANTS.get(found.architecture)) == wanted.variant)


def choose(index: oci.Index, platform: oci.Platform, reference: "Reference") -> oci.Descriptor:
    """Return the manifest for `platform`; where there are several, the plainest."""
    fitting = [one for one in index.manifests if one.platform is not None and fits(one.platform, platform)]
    # A later variant of amd64 (v3) may not run here.
    fitting.sort(key=lambda one: one.platform is not None and one.platform.variant not in {"", "v8"})
    if fitting:
        return fitting[0]
    there = dict.fromkeys(text(one.platform) for one in index.manifests if one.platform is not None)
    shown = ", ".join(f"`{one}`" for one in there if one != "unknown/unknown")
    hints = (f"there is: {shown[:500]}",) if shown else ()
    raise NotFound(f"the registry has no `{reference.familiar()}` for `{text(platform)}`", hints=hints)
