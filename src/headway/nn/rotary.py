"""Rotary position embedding (RoPE): the product of a query and a key depends on their relative position.

Pairs of numbers (a, b) of a query or key at position p are rotated by the angle p w, for a few frequencies w:

    (a, b) -> (a cos pw - b sin pw, a sin pw + b cos pw)

The product of a query rotated at p and a key rotated at s depends on p - s alone.

Su et al., "RoFormer", 2021 (https://arxiv.org/abs/2104.09864). In two dimensions half of the pairs encode the row and
half the column, with frequencies closer together than for text, as in Heo et al., "Rotary position embedding for
vision transformer", 2024 (https://arxiv.org/abs/2403.13298).
"""

import torch
from torch import Tensor

from headway.errors import HeadwayError

Rope = tuple[Tensor, Tensor]
"""Cosines and sines of the angles: B (or 1) 1 T d/2 each."""
ROPE_BASE = 100.0
"""Approximate ratio of the highest frequency (1 radian per patch) to the lowest."""


def check_rope_head_dim(head_dim: int) -> None:
    """Raise HeadwayError unless 4 divides ``head_dim``: there are two axes, and numbers are rotated in pairs."""
    if head_dim % 4:
        raise HeadwayError(
            "value-out-of-range",
            f"rotary positions need a head_dim divisible by 4 (two axes, pairs of numbers), got {head_dim}",
        )


def rope_angles(grid: tuple[int, int], train_grid_size: int, head_dim: int, like: Tensor) -> Tensor:
    """Return the angle of each pair of numbers at each patch: N d/2.

    Coordinates span 0 to ``train_grid_size`` whatever the number of patches, and a patch lies at its center. Another
    grid is thus laid over the same image, as an interpolated position embedding is.

    Args:
        grid: Rows and columns.
        train_grid_size: Patches per side of the images for which the network is built.
        head_dim: d, width of an attention head; 4 divides it.
        like: A tensor that gives the device and the precision (at least float32) of the angles.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    steps, *axes = (torch.arange(n, device=like.device, dtype=dtype) for n in (head_dim // 4, *grid))
    frequencies = ROPE_BASE ** (-steps / (head_dim // 4))  # d/4
    rows, columns = ((axis + 0.5) * (train_grid_size / len(axis)) for axis in axes)  # rows, columns
    row_angles = (rows[:, None] * frequencies)[:, None].expand(-1, len(columns), -1)  # rows columns d/4
    column_angles = (columns[:, None] * frequencies)[None].expand(len(rows), -1, -1)  # rows columns d/4
    return torch.cat([row_angles, column_angles], -1).flatten(0, 1)  # N d/2


def apply_rope(x: Tensor, rope: Rope | None) -> Tensor:
    """Rotate the pairs (number i, number i + d/2) of every query or key: B h T d -> B h T d. None rotates nothing."""
    if rope is None:
        return x
    cos, sin = rope
    a, b = x.chunk(2, -1)  # B h T d/2, twice
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1).to(x.dtype)  # B h T d
