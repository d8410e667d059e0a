"""Pictures as numbers in [0, 1], and changing some rows of a batch while leaving the others alone."""

from collections.abc import Callable

import torch
from torch import Tensor


def to_unit(images: Tensor) -> Tensor:
    """Stored pictures as float32 in [0, 1].

    Args:
        images: B C H W, uint8 in 0..255, or floating point in [0, 1] already (then given back as float32, not scaled).

    Raises:
        ValueError: For any other type of number.
    """
    if images.dtype == torch.uint8:
        return images.float().div_(255)
    if images.is_floating_point():
        return images.float()
    raise ValueError(f"pictures are uint8 or floating point in [0, 1], got {images.dtype}")


def each(values: Tensor) -> Tensor:
    """One number a picture, shaped to meet its pixels: B -> B 1 1 1."""
    return values[:, None, None, None]


def _at_once(images: Tensor) -> int:
    """How many pictures a processor treats together: few enough to stay in its cache from one operation to the next."""
    return max(1, (1 << 18) // images[0].numel()) if images.device.type == "cpu" else len(images)


def in_parts(change: Callable[..., Tensor], images: Tensor, *parameters: Tensor) -> Tensor:
    """``change(images, *parameters)``, on a processor part by part of the batch (two to three times as fast).

    Args:
        change: Treats every picture by itself.
        images: B C H W.
        parameters: Each of B rows.
    """
    size = _at_once(images) if len(images) else 1
    if len(images) <= size:
        return change(images, *parameters)
    parts = zip(*(values.split(size) for values in (images, *parameters)), strict=True)
    return torch.cat([change(*part) for part in parts])


def on_chosen(images: Tensor, which: Tensor, change: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
    """Change the chosen pictures and leave the others to the bit.

    A processor computes the chosen rows alone; an accelerator computes all of them, which costs it less than waiting to
    learn how many were chosen. ``change`` must treat every picture by itself, so both give the same.

    Args:
        images: B C H W.
        which: B, bool.
        change: ``change(images, *parameters)`` gives pictures of the same shape.
        parameters: Each of B rows.

    Returns:
        B C H W; the very tensor ``images`` where none was chosen.
    """
    if images.device.type != "cpu":
        return torch.where(each(which), change(images, *parameters), images)
    chosen = which.nonzero()[:, 0]
    if len(chosen) == 0:
        return images
    result = images.clone()
    for rows in chosen.split(_at_once(images)):
        result.index_copy_(0, rows, change(images[rows], *(values[rows] for values in parameters)))
    return result
