"""I-JEPA's blocks: a large context to look at and a few smaller targets to predict, none of which is in the context.

Assran et al., "Self-supervised learning from images with a joint-embedding predictive architecture", 2023
(https://arxiv.org/abs/2301.08243), section 3. Sizes are drawn once a step, places per picture. A context that gives up
what the targets cover would differ in size from picture to picture; here every picture of a step keeps equally many.
"""

import math
import random
from typing import NamedTuple

import torch
from torch import Tensor

from headway.draws import Draws
from headway.views.masks import rectangles

PROPOSALS = 16
"""How often the places of a picture's blocks are drawn; the first draw that leaves enough context is taken."""


class Blocks(NamedTuple):
    """Patches of the blocks, row-major, int64: the context's B K, ascending, and each of M targets' B M T."""

    context: Tensor
    targets: Tensor


def context_and_targets(
    draws: Draws,
    grid: tuple[int, int],
    targets: int = 4,
    target_scale: tuple[float, float] = (0.15, 0.2),
    target_shape: tuple[float, float] = (0.75, 1.5),
    context_scale: tuple[float, float] = (0.85, 1.0),
) -> Blocks:
    """Deal blocks.

    K is what targets would leave of the context on average if each covered its own share of it, whatever the others
    cover: area of context x (1 - area of a target / N)^M. Of what is left beyond K, patches are dropped at random.

    Args:
        draws: Chance: sizes from ``draws.step``, places per picture.
        grid: Rows and columns of patches, N = rows x columns; 2 x 2 at least.
        targets: M; they may overlap.
        target_scale: Area of a target as a share of the grid.
        target_shape: Height / width of a target.
        context_scale: Area of the context, which is square, as a share of the grid.

    Raises:
        ValueError: Where a target could cover all of the context.
    """
    rows, columns = grid
    tall, wide = _sides(draws.step, grid, target_scale, target_shape)
    context_tall, context_wide = _sides(draws.step, grid, context_scale, (1.0, 1.0))
    context, target = context_tall * context_wide, tall * wide
    if target >= context:
        raise ValueError(f"a target of {target} patches leaves nothing of a context of {context}, on a grid of {grid}")
    keep = min(max(int(context * (1 - target / (rows * columns)) ** targets), 1), context - target)  # K

    place = draws.uniform(PROPOSALS, targets, 2)  # B proposals M 2
    place[:, -1] = place[:, -1, :1]  # one heap of targets: this proposal always leaves enough
    corner = _corners(place, grid, tall, wide)  # B proposals M 2
    taken = rectangles(_boxes(corner, tall, wide), grid).any(2)  # B proposals N
    corner_of_context = _corners(draws.uniform(2), grid, context_tall, context_wide)  # B 2
    seen = rectangles(_boxes(corner_of_context, context_tall, context_wide), grid)  # B N
    free = seen[:, None] & ~taken  # B proposals N
    chosen = (free.sum(2) >= keep).int().argmax(1)  # B
    here = torch.arange(len(draws), device=place.device)  # B
    order = draws.permutation(rows * columns) + rows * columns * (~free[here, chosen])  # B N: free patches come first
    kept = order.argsort(1)[:, :keep].sort(1).values  # B K

    down = torch.arange(tall, device=place.device)[:, None] * columns
    inside = (down + torch.arange(wide, device=place.device)).flatten()  # T, counted from a target's corner
    first = corner[here, chosen]  # B M 2
    return Blocks(kept, (first[..., 0] * columns + first[..., 1])[..., None] + inside)


def _sides(
    chance: random.Random, grid: tuple[int, int], scale: tuple[float, float], shape: tuple[float, float]
) -> tuple[int, int]:
    """Height and width in patches, at least one and at most the grid's."""
    area = grid[0] * grid[1] * chance.uniform(*scale)
    aspect = math.exp(chance.uniform(*map(math.log, shape)))
    tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    return min(max(tall, 1), grid[0]), min(max(wide, 1), grid[1])


def _corners(place: Tensor, grid: tuple[int, int], tall: int, wide: int) -> Tensor:
    """Top and left of blocks that fit into the grid, from places in [0, 1): ... 2 -> ... 2, int64."""
    most = torch.tensor([grid[0] - tall, grid[1] - wide], device=place.device)
    return (place * (most + 1)).long().minimum(most)  # a product just below a whole number may round up to it


def _boxes(corner: Tensor, tall: int, wide: int) -> Tensor:
    """... 2 -> ... 4: top, left, height, width."""
    return torch.cat([corner, torch.tensor([tall, wide], device=corner.device).expand_as(corner)], -1)
