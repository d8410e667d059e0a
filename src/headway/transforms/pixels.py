"""Convert images to [0, 1], and apply functions to chunks or to selected images of a batch."""

from collections.abc import Callable

import torch
from torch import Tensor


def to_float01(images: Tensor) -> Tensor:
    """Convert stored images to float32 in [0, 1].

    Args:
        images: B C H W, uint8 in 0..255, or floating point in [0, 1], which is converted to float32 but not scaled.

    Raises:
        ValueError: The images have another type.
    """
    if images.dtype == torch.uint8:
        return images.float().div_(255)
    if images.is_floating_point():
        return images.float()
    raise ValueError(f"images are uint8 or floating point in [0, 1], got {images.dtype}")


def per_image(values: Tensor) -> Tensor:
    """Reshape one number per image to broadcast over its pixels: B -> B 1 1 1."""
    return values[:, None, None, None]


def _chunk_size(images: Tensor) -> int:
    """Number of images that a CPU processes at a time: few enough to stay in its cache between operations."""
    return max(1, (1 << 18) // images[0].numel()) if images.device.type == "cpu" else len(images)


def map_chunks(function: Callable[..., Tensor], images: Tensor, *parameters: Tensor) -> Tensor:
    """Return ``function(images, *parameters)``, computed in chunks on a CPU, which is two to three times as fast.

    Args:
        function: Must process every image independently.
        images: B C H W.
        parameters: Tensors of B rows each.
    """
    size = _chunk_size(images) if len(images) else 1
    if len(images) <= size:
        return function(images, *parameters)
    parts = zip(*(values.split(size) for values in (images, *parameters)), strict=True)
    return torch.cat([function(*part) for part in parts])


def apply_to_selected(images: Tensor, selected: Tensor, function: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
    """Apply a function to the selected images; the others keep every bit.

    A CPU computes the selected rows only. An accelerator computes all rows, which costs less than waiting for the
    number of selected ones. ``function`` must process every image independently, so that both give the same.

    Args:
        images: B C H W.
        selected: B, bool.
        function: ``function(images, *parameters)`` returns images of the same shape.
        parameters: Tensors of B rows each.

    Returns:
        B C H W; the tensor ``images`` itself where none is selected.
    """
    if images.device.type != "cpu":
        return torch.where(per_image(selected), function(images, *parameters), images)
    indices = selected.nonzero()[:, 0]
    if len(indices) == 0:
        return images
    result = images.clone()
    for rows in indices.split(_chunk_size(images)):
        result.index_copy_(0, rows, function(images[rows], *(values[rows] for values in parameters)))
    return result
