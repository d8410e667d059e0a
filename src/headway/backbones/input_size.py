"""Image sizes: the side of the main view that a network sees, and the side at which images are stored."""

from headway.backbones.build import auto_patch_size
from headway.errors import HeadwayError

MAX_VIEW_SIZE = 224
"""Default upper limit for the side of the main view, in pixels."""
TIMM_STRIDE = 32
"""Factor by which nearly all timm networks reduce the resolution of an image."""
STORAGE_SCALE = 1.5
"""Default ``storage_scale`` of ``storage_side`` where no recipe gives one: crops are cut from more pixels than they
show."""


def choose_view_size(short_side: int, *, size: int = 0, patch: int = 0, backbone: str = "") -> tuple[int, int]:
    """Choose the side of the main view and the patch size that the backbone is asked for.

    Args:
        short_side: Median short side of the images in pixels.
        size: Requested side of the view; 0: the short side, at most MAX_VIEW_SIZE, rounded down to whole patches.
        patch: Requested patch size; 0: chosen by the size of the view.
        backbone: Name of the backbone; a timm:NAME has its own patch size.

    Returns:
        Side of the view and patch size in pixels; the patch size is 0 for timm networks.

    Raises:
        HeadwayError: The view would hold fewer than 2 x 2 patches, or its side is no multiple of the patch size.
    """
    side = size or min(short_side, MAX_VIEW_SIZE)
    is_timm = backbone.startswith("timm:")
    if is_timm and patch:
        raise HeadwayError("options-conflict", f"{backbone} has its own patch size; leave --patch out")
    if is_timm:  # most of them accept any side; they were designed for multiples of their stride
        return size or max(side // TIMM_STRIDE, 1) * TIMM_STRIDE, 0
    patch = patch or auto_patch_size(side)
    if size and side % patch:
        raise HeadwayError(
            "image-size",
            f"--size {side} is no multiple of the patch of {patch} pixels; {max(side // patch, 2) * patch} is",
        )
    side = side // patch * patch
    if side < 2 * patch:
        raise HeadwayError(
            "image-size",
            f"views of {side or short_side} pixels hold fewer than 2 x 2 patches of {patch}; give a larger --size",
        )
    return side, patch


def storage_side(short_side: int, view_size: int, storage_scale: float) -> int:
    """Side at which images are stored, in pixels.

    ``storage_scale`` times the view where the images have so many pixels, and never less than the view.
    """
    return max(view_size, min(short_side, round(view_size * storage_scale)))
