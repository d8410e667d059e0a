"""Which patches are hidden: the same number for every picture, or accumulated batches would not equal whole ones.

Patches are counted row by row over a grid of rows x columns; N = rows x columns.
"""

import math

import torch
from torch import Tensor

from headway.draws import Draws


def _check(patches: int, hidden: int) -> None:
    if not 0 <= hidden <= patches:
        raise ValueError(f"cannot choose {hidden} of {patches} patches")


def random_masks(draws: Draws, patches: int, ratio: float) -> Tensor:
    """B N, bool: round(ratio x N) patches of each picture, anywhere. Raises ValueError unless ratio is in [0, 1]."""
    hidden = round(ratio * patches)
    _check(patches, hidden)
    return draws.permutation(patches) < hidden  # the places where a permutation puts its first numbers


def keep_indices(draws: Draws, patches: int, keep: int) -> tuple[Tensor, Tensor]:
    """The patches that a masked autoencoder sees.

    He et al., "Masked autoencoders are scalable vision learners", 2021 (https://arxiv.org/abs/2111.06377).

    Args:
        draws: Chance, per picture.
        patches: N.
        keep: K, how many of them are kept.

    Returns:
        B K, int64, ascending: the patches kept; and B N, bool: True for the others.

    Raises:
        ValueError: Unless 0 <= K <= N.
    """
    _check(patches, keep)
    kept = draws.permutation(patches)[:, :keep].sort(1).values  # B K
    mask = torch.ones(len(draws), patches, dtype=torch.bool, device=kept.device)  # B N
    return kept, mask.scatter_(1, kept, False)


def rectangles(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """... N, bool: the patches inside each box (... 4: top, left, height, width in patches)."""
    top, left, tall, wide = (edge[..., None] for edge in boxes.unbind(-1))  # ... 1 each
    patch = torch.arange(grid[0] * grid[1], device=boxes.device)  # N
    row, column = patch // grid[1], patch % grid[1]  # N each
    return (row >= top) & (row < top + tall) & (column >= left) & (column < left + wide)  # ... N


def block_masks(
    draws: Draws,
    grid: tuple[int, int],
    ratio: float,
    size: tuple[float, float] = (0.2, 0.6),
    shape: tuple[float, float] = (0.3, 1 / 0.3),
    blocks: int = 16,
) -> Tensor:
    """Hide patches in blocks, exactly round(ratio x N) a picture.

    After Bao et al., "BEiT", 2021, algorithm 1 (https://arxiv.org/abs/2106.08254): random blocks are laid until enough
    is hidden. Here all are drawn at once, and the last one needed is hidden from its centre outwards.

    Args:
        draws: Chance, per picture.
        grid: Rows and columns of patches.
        ratio: Share of patches to hide, in [0, 1].
        size: Area of a block as a share of what is to be hidden, uniform in this range.
        shape: Height / width of a block, log-uniform in this range.
        blocks: How many are drawn; if they don't suffice, the last one grows.

    Returns:
        B N, bool.

    Raises:
        ValueError: Unless ratio is in [0, 1].
    """
    rows, columns = grid
    hidden = round(ratio * rows * columns)
    _check(rows * columns, hidden)
    area = hidden * draws.uniform(blocks, low=size[0], high=size[1])  # B M
    aspect = torch.exp(draws.uniform(blocks, low=math.log(shape[0]), high=math.log(shape[1])))  # B M
    tall = (area * aspect).sqrt().round().clamp(1, rows)  # B M
    wide = (area / aspect).sqrt().round().clamp(1, columns)  # B M
    place = draws.uniform(blocks, 2)  # B M 2
    top = (place[..., 0] * (rows - tall + 1)).floor()  # B M
    left = (place[..., 1] * (columns - wide + 1)).floor()  # B M
    inside = rectangles(torch.stack([top, left, tall, wide], -1), grid)  # B M N
    inside[:, -1] = True  # whatever no block covers belongs to the last, far from its centre
    first = inside.int().argmax(1)  # B N: the first block that covers a patch
    patch = torch.arange(rows * columns, device=first.device)  # N
    down = (patch // columns + 0.5 - (top + tall / 2).gather(1, first)).abs() / tall.gather(1, first)  # B N
    across = (patch % columns + 0.5 - (left + wide / 2).gather(1, first)).abs() / wide.gather(1, first)  # B N
    turn = first + torch.maximum(down, across) / (rows + columns)  # B N: block by block, each from its centre outwards
    chosen = turn.argsort(dim=1, stable=True)[:, :hidden]  # B hidden
    return torch.zeros_like(turn, dtype=torch.bool).scatter_(1, chosen, True)


def upscale(mask: Tensor, grid: tuple[int, int], factor: int) -> Tensor:
    """Each patch of a mask as factor x factor finer ones: pixels, or the patches of a finer grid.

    Args:
        mask: B N.
        grid: Rows and columns, N = rows x columns.
        factor: Finer ones a side (the patch size, for pixels).

    Returns:
        B rows*factor columns*factor; ``[:, None]`` makes it a picture, ``.flatten(1)`` a mask of the finer grid.
    """
    coarse = mask.unflatten(1, grid)  # B rows columns
    return coarse.repeat_interleave(factor, 1).repeat_interleave(factor, 2)  # B rows*factor columns*factor
