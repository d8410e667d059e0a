"""Rotary positions: a query and a key are turned by where they stand, so that their product knows how far apart.

Pairs of numbers (a, b) of a query or key at position p are turned by the angle p w, for a few frequencies w:

    (a, b) -> (a cos pw - b sin pw, a sin pw + b cos pw)

and the product of a query turned at p and a key turned at s depends on p - s alone.

Su et al., "RoFormer", 2021 (https://arxiv.org/abs/2104.09864); in two dimensions half of the pairs tell the row and
half the column, with frequencies closer together than for text, as in Heo et al., "Rotary position embedding for
vision transformer", 2024 (https://arxiv.org/abs/2403.13298).
"""

import torch
from torch import Tensor

from headway.errors import HeadwayError

Turns = tuple[Tensor, Tensor]
"""Cosines and sines of the angles: B (or 1) 1 T d/2 each."""
BASE = 100.0
"""Ratio of the fastest frequency (1 radian a patch) to the slowest, roughly."""


def check_head_width(width: int) -> None:
    """Raise HeadwayError unless an attention head of this width can be turned: two axes, pairs of numbers."""
    if width % 4:
        raise HeadwayError(
            f"rotary positions need attention heads of a width that 4 divides (two axes, pairs of numbers), got {width}"
        )


def grid_angles(grid: tuple[int, int], trained: int, width: int, like: Tensor) -> Tensor:
    """Angle of each pair of numbers at each patch: N d/2.

    Another grid is laid over the same picture, as a stretched table of positions is: coordinates run from 0 to
    ``trained`` whatever the number of patches, and a patch stands at its middle.

    Args:
        grid: Rows and columns.
        trained: Patches a side of the pictures that the network is made for.
        width: d, of an attention head; 4 divides it.
        like: A tensor whose device, and precision from float32 up, the angles get.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    steps, *axes = (torch.arange(n, device=like.device, dtype=dtype) for n in (width // 4, *grid))
    frequencies = BASE ** (-steps / (width // 4))  # d/4
    rows, columns = ((axis + 0.5) * (trained / len(axis)) for axis in axes)  # rows, columns
    down = (rows[:, None] * frequencies)[:, None].expand(-1, len(columns), -1)  # rows columns d/4
    across = (columns[:, None] * frequencies)[None].expand(len(rows), -1, -1)  # rows columns d/4
    return torch.cat([down, across], -1).flatten(0, 1)  # N d/2


def turn(x: Tensor, turns: Turns | None) -> Tensor:
    """Turn the pairs (number i, number i + d/2) of every query or key: B h T d -> B h T d. None turns nothing."""
    if turns is None:
        return x
    cos, sin = turns
    a, b = x.chunk(2, -1)  # B h T d/2, twice
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1).to(x.dtype)  # B h T d
