"""I-JEPA's blocks: a large context and a few smaller targets to predict, which do not overlap the context.

Assran et al., "Self-supervised learning from images with a joint-embedding predictive architecture", 2023
(https://arxiv.org/abs/2301.08243), section 3. Sizes are drawn once per step, positions per image. In the paper the size
of a context without the targets differs between images; here every image of a step keeps equally many patches.
"""

import math
import random
from typing import NamedTuple

import torch
from torch import Tensor

from headway.rng import SampleRNG
from headway.transforms.masks import boxes_to_masks

NUM_PROPOSALS = 16
"""Number of draws of the block positions of an image; the first that leaves enough context is taken."""


class IJEPABlocks(NamedTuple):
    """Indices of the blocks' patches, row-major, int64.

    Attributes:
        context_indices: B K, ascending.
        target_indices: B M T, for each of M targets.
    """

    context_indices: Tensor
    target_indices: Tensor


def sample_ijepa_blocks(
    rng: SampleRNG,
    grid: tuple[int, int],
    num_targets: int = 4,
    target_scale: tuple[float, float] = (0.15, 0.2),
    target_aspect_ratio: tuple[float, float] = (0.75, 1.5),
    context_scale: tuple[float, float] = (0.85, 1.0),
) -> IJEPABlocks:
    """Sample context and target blocks.

    K is the mean number of context patches outside of all targets if targets were independent:
    area of the context x (1 - area of a target / N)^M. Where more than K are left, random ones are dropped.

    Args:
        rng: Random numbers: sizes of the step, positions per image.
        grid: Rows and columns of patches, N = rows x columns; at least 2 x 2.
        num_targets: M; targets may overlap.
        target_scale: Range of a target's area as a fraction of the grid.
        target_aspect_ratio: Range of a target's height / width.
        context_scale: Range of the area of the context, which is square, as a fraction of the grid.

    Raises:
        ValueError: A target could cover the whole context.
    """
    rows, columns = grid
    height, width = _block_size(rng.for_step("target size"), grid, target_scale, target_aspect_ratio)
    context_height, context_width = _block_size(rng.for_step("context size"), grid, context_scale, (1.0, 1.0))
    context, target = context_height * context_width, height * width
    if target >= context:
        raise ValueError(f"a target of {target} patches could cover the context of {context}, on a grid of {grid}")
    num_keep = min(max(int(context * (1 - target / (rows * columns)) ** num_targets), 1), context - target)  # K

    position = rng.uniform("target position", NUM_PROPOSALS, num_targets, 2)  # B proposals M 2
    position[:, -1] = position[:, -1, :1]  # all targets in one place: this proposal always leaves enough
    corner = _corners(position, grid, height, width)  # B proposals M 2
    covered = boxes_to_masks(_boxes(corner, height, width), grid).any(2)  # B proposals N
    context_corner = _corners(rng.uniform("context position", 2), grid, context_height, context_width)  # B 2
    in_context = boxes_to_masks(_boxes(context_corner, context_height, context_width), grid)  # B N
    free = in_context[:, None] & ~covered  # B proposals N
    chosen = (free.sum(2) >= num_keep).int().argmax(1)  # B
    batch_index = torch.arange(len(rng), device=position.device)  # B
    order = rng.permutation("kept patches", rows * columns)  # B N
    order = order + rows * columns * (~free[batch_index, chosen])  # B N: free patches first
    kept = order.argsort(1)[:, :num_keep].sort(1).values  # B K

    row_offset = torch.arange(height, device=position.device)[:, None] * columns
    offset = (row_offset + torch.arange(width, device=position.device)).flatten()  # T, from a target's corner
    first = corner[batch_index, chosen]  # B M 2
    return IJEPABlocks(kept, (first[..., 0] * columns + first[..., 1])[..., None] + offset)


def _block_size(
    rng: random.Random, grid: tuple[int, int], scale: tuple[float, float], aspect_ratio: tuple[float, float]
) -> tuple[int, int]:
    """Draw height and width of a block in patches, at least 1 and at most the grid's."""
    area = grid[0] * grid[1] * rng.uniform(*scale)
    aspect = math.exp(rng.uniform(*map(math.log, aspect_ratio)))
    height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    return min(max(height, 1), grid[0]), min(max(width, 1), grid[1])


def _corners(position: Tensor, grid: tuple[int, int], height: int, width: int) -> Tensor:
    """Top and left of blocks that fit into the grid, from positions in [0, 1): ... 2 -> ... 2, int64."""
    upper = torch.tensor([grid[0] - height, grid[1] - width], device=position.device)
    return (position * (upper + 1)).long().minimum(upper)  # a product just below an integer may round up to it


def _boxes(corner: Tensor, height: int, width: int) -> Tensor:
    """... 2 -> ... 4: top, left, height, width."""
    return torch.cat([corner, torch.tensor([height, width], device=corner.device).expand_as(corner)], -1)
