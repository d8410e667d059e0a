"""Which patches are hidden: the same number for every picture, or accumulated batches would not equal whole ones.

Patches are counted row by row over a grid of rows x columns; N = rows x columns.
"""

import math

import torch
from torch import Tensor

from headway.draws import Draws
from headway.errors import HeadwayError


def _check(patches: int, hidden: int) -> None:
    if not 0 <= hidden <= patches:
        raise ValueError(f"cannot choose {hidden} of {patches} patches")


def grid_for(size: int, patch: int) -> tuple[int, int]:
    """Rows and columns of patches of a square view. Raises HeadwayError below 2 x 2: there is nothing to hide from."""
    side = size // patch
    if side < 2:
        raise HeadwayError(
            f"a task that hides patches needs views of 2 x 2 patches at least, and {size} pixels hold {side} a side of "
            f"{patch} pixels each; give a larger --size, a smaller --patch or another backbone"
        )
    return side, side


def hidden_count(patches: int, ratio: float) -> int:
    """About ``ratio`` of the patches, but at least one is hidden and one is seen. Raises ValueError below 2 patches."""
    if patches < 2:
        raise ValueError(f"of {patches} patches none can be hidden while another is seen")
    return min(max(round(ratio * patches), 1), patches - 1)


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


def central_masks(draws: Draws, grid: tuple[int, int], ratio: float) -> Tensor:
    """B N, bool: the same rectangle in the middle of every picture, of the grid's shape and about ratio x N patches."""
    _check(grid[0] * grid[1], round(ratio * grid[0] * grid[1]))
    tall, wide = (max(round(ratio**0.5 * side), 1) for side in grid)
    box = [(grid[0] - tall) // 2, (grid[1] - wide) // 2, tall, wide]
    return rectangles(torch.tensor(box, device=draws.places.device), grid).expand(len(draws), -1)  # B N


def region_masks(draws: Draws, grid: tuple[int, int], ratio: float, discs: int = 6) -> Tensor:
    """Hide one region of any shape, exactly round(ratio x N) patches a picture.

    After the random regions of Pathak et al., "Context encoders", 2016 (https://arxiv.org/abs/1604.07379), who take
    shapes from labelled pictures; here discs of random radius lie along a random walk, and grow together until enough
    is hidden.

    Args:
        draws: Chance, per picture.
        grid: Rows and columns of patches.
        ratio: Share of patches to hide, in [0, 1].
        discs: Steps of the walk.

    Returns:
        B N, bool.

    Raises:
        ValueError: Unless ratio is in [0, 1].
    """
    rows, columns = grid
    hidden = round(ratio * rows * columns)
    _check(rows * columns, hidden)
    radius = draws.uniform(discs, low=0.5, high=1.5) * (hidden / discs) ** 0.5  # B M, patches
    sides = torch.tensor([rows, columns], device=radius.device)  # 2
    start = draws.uniform(1, 2) * sides  # B 1 2: anywhere
    angle = draws.uniform(discs, low=0.0, high=2 * math.pi)  # B M
    step = radius[..., None] * torch.stack([angle.sin(), angle.cos()], -1)  # B M 2
    walk = start + step.cumsum(1) - step[:, :1]  # B M 2
    centre = sides - (sides - walk.remainder(2 * sides)).abs()  # B M 2: thrown back by the picture's edges
    patch = torch.arange(rows * columns, device=radius.device)  # N
    down = patch // columns + 0.5 - centre[..., :1]  # B M N
    across = patch % columns + 0.5 - centre[..., 1:]  # B M N
    nearness = ((down.square() + across.square()).sqrt() / radius[..., None]).amin(1)  # B N: below 1 inside a disc
    chosen = nearness.argsort(dim=1, stable=True)[:, :hidden]  # B hidden
    return torch.zeros_like(nearness, dtype=torch.bool).scatter_(1, chosen, True)


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


def covered(images: Tensor, mask: Tensor, grid: tuple[int, int], shade: float = 0.86) -> Tensor:
    """The pictures as people may see them: hidden patches under a light grey.

    Args:
        images: B C H W in [0, 1].
        mask: B N, bool: the hidden patches.
        grid: Rows and columns of patches.
        shade: Of grey, in [0, 1].

    Returns:
        B C H W.
    """
    pixels = upscale(mask, grid, images.shape[-1] // grid[1])[:, None]  # B 1 H W
    return torch.where(pixels, shade, images)
