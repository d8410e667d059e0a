"""Images as grids of patches, and the views of tasks that mask patches."""

from typing import NamedTuple

import torch
from torch import Tensor


class MaskedViews(NamedTuple):
    """Views of a masked-image task.

    Attributes:
        images: B C H W, whole images.
        mask: B N, bool: the patches to mask.
    """

    images: Tensor
    mask: Tensor


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """The pixels of each patch: B C H W -> B N p*p*C, patches row by row."""
    b, c, h, w = images.shape
    tiles = images.reshape(b, c, h // patch_size, patch_size, w // patch_size, patch_size)  # B C rows p columns p
    return tiles.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, patch_size * patch_size * c)  # B N p*p*C


def unpatchify(pixels: Tensor, patch_size: int, rows: int) -> Tensor:
    """Undo ``patchify`` for an image with as many rows as columns of patches: B N p*p*C -> B C H W."""
    tiles = pixels.unflatten(1, (rows, rows)).unflatten(3, (patch_size, patch_size, -1))  # B rows columns p p C
    return tiles.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)  # B C H W


def permute_patches(images: Tensor, positions: Tensor, patch_size: int) -> Tensor:
    """Move patch ``positions[b, i]`` of each image to position i: B C H W and B N -> B C H W, patches row by row."""
    rows, columns = images.shape[2] // patch_size, images.shape[3] // patch_size
    cut = images.unflatten(3, (columns, patch_size)).unflatten(2, (rows, patch_size))  # B C rows p columns p
    patches = cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # B N C p p
    moved = patches[torch.arange(len(images), device=images.device)[:, None], positions]  # B N C p p
    back = moved.unflatten(1, (rows, columns)).permute(0, 3, 1, 4, 2, 5)  # B C rows p columns p
    return back.flatten(4).flatten(2, 3)  # B C H W
