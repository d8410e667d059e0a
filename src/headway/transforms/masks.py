"""Random masks of patches. Every image has equally many masked patches, so that a batch can be split.

Patches are numbered row by row over a grid of rows x columns; N = rows x columns.
"""

import math

import torch
from torch import Tensor

from headway.errors import HeadwayError
from headway.rng import SampleRNG


def _check_num_masked(num_patches: int, num_masked: int) -> None:
    if not 0 <= num_masked <= num_patches:
        raise ValueError(f"cannot select {num_masked} of {num_patches} patches")


def maskable_grid(size: int, patch_size: int) -> tuple[int, int]:
    """Return rows and columns of patches of a square view. Raises HeadwayError below 2 x 2, too few for masking."""
    side = size // patch_size
    if side < 2:
        raise HeadwayError(
            "image-size",
            f"a task that masks patches needs views of at least 2 x 2 patches, and {size} pixels hold {side} per side "
            f"of {patch_size} pixels each; give a larger --size, a smaller --patch or another backbone",
        )
    return side, side


def num_masked_patches(num_patches: int, mask_ratio: float) -> int:
    """Return about ``mask_ratio`` x N, at least 1 and at most N - 1. Raises ValueError below 2 patches."""
    if num_patches < 2:
        raise ValueError(f"of {num_patches} patches none can be masked while another is visible")
    return min(max(round(mask_ratio * num_patches), 1), num_patches - 1)


def random_masks(rng: SampleRNG, num_patches: int, mask_ratio: float) -> Tensor:
    """Mask round(mask_ratio x N) random patches: B N, bool. Raises ValueError unless ``mask_ratio`` is in [0, 1]."""
    num_masked = round(mask_ratio * num_patches)
    _check_num_masked(num_patches, num_masked)
    order = rng.permutation("masked patches", num_patches)  # B N
    return order < num_masked  # the positions of the first numbers in a permutation


def random_keep_indices(rng: SampleRNG, num_patches: int, num_keep: int) -> tuple[Tensor, Tensor]:
    """Draw the visible patches of a masked autoencoder.

    He et al., "Masked autoencoders are scalable vision learners", 2021 (https://arxiv.org/abs/2111.06377).

    Args:
        rng: Random numbers of each image.
        num_patches: N.
        num_keep: K, the number of visible patches.

    Returns:
        B K, int64, ascending: the visible patches; and B N, bool: True for the masked ones.

    Raises:
        ValueError: K is not in 0..N.
    """
    _check_num_masked(num_patches, num_keep)
    kept = rng.permutation("visible patches", num_patches)[:, :num_keep].sort(1).values  # B K
    mask = torch.ones(len(rng), num_patches, dtype=torch.bool, device=kept.device)  # B N
    return kept, mask.scatter_(1, kept, False)


def boxes_to_masks(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mark the patches inside each box (... 4: top, left, height, width in patches): ... N, bool."""
    top, left, height, width = (edge[..., None] for edge in boxes.unbind(-1))  # ... 1 each
    patch = torch.arange(grid[0] * grid[1], device=boxes.device)  # N
    row, column = patch // grid[1], patch % grid[1]  # N each
    return (row >= top) & (row < top + height) & (column >= left) & (column < left + width)  # ... N


def block_masks(
    rng: SampleRNG,
    grid: tuple[int, int],
    mask_ratio: float,
    scale: tuple[float, float] = (0.2, 0.6),
    aspect_ratio: tuple[float, float] = (0.3, 1 / 0.3),
    num_blocks: int = 16,
) -> Tensor:
    """Mask patches in rectangular blocks, exactly round(mask_ratio x N) per image.

    After Bao et al., "BEiT", 2021, algorithm 1 (https://arxiv.org/abs/2106.08254), which adds random blocks until
    enough patches are masked. Here all blocks are drawn at once, and the last one needed is masked from its center
    outwards.

    Args:
        rng: Random numbers of each image.
        grid: Rows and columns of patches.
        mask_ratio: Fraction of patches to mask, in [0, 1].
        scale: Area of a block as a fraction of the masked area, uniform in this range.
        aspect_ratio: Height / width of a block, log-uniform in this range.
        num_blocks: Number of blocks drawn; if they do not suffice, the last one grows.

    Returns:
        B N, bool.

    Raises:
        ValueError: ``mask_ratio`` is not in [0, 1].
    """
    rows, columns = grid
    num_masked = round(mask_ratio * rows * columns)
    _check_num_masked(rows * columns, num_masked)
    area = num_masked * rng.uniform("block area", num_blocks, low=scale[0], high=scale[1])  # B M
    low, high = math.log(aspect_ratio[0]), math.log(aspect_ratio[1])
    aspect = torch.exp(rng.uniform("block aspect", num_blocks, low=low, high=high))  # B M
    height = (area * aspect).sqrt().round().clamp(1, rows)  # B M
    width = (area / aspect).sqrt().round().clamp(1, columns)  # B M
    position = rng.uniform("block position", num_blocks, 2)  # B M 2
    top = (position[..., 0] * (rows - height + 1)).floor()  # B M
    left = (position[..., 1] * (columns - width + 1)).floor()  # B M
    inside = boxes_to_masks(torch.stack([top, left, height, width], -1), grid)  # B M N
    inside[:, -1] = True  # patches outside of all blocks belong to the last one, far from its center
    first = inside.int().argmax(1)  # B N: the first block that covers a patch
    patch = torch.arange(rows * columns, device=first.device)  # N
    dy = (patch // columns + 0.5 - (top + height / 2).gather(1, first)).abs() / height.gather(1, first)  # B N
    dx = (patch % columns + 0.5 - (left + width / 2).gather(1, first)).abs() / width.gather(1, first)  # B N
    rank = first + torch.maximum(dy, dx) / (rows + columns)  # B N: block by block, each from its center outwards
    chosen = rank.argsort(dim=1, stable=True)[:, :num_masked]  # B num_masked
    return torch.zeros_like(rank, dtype=torch.bool).scatter_(1, chosen, True)


def central_masks(rng: SampleRNG, grid: tuple[int, int], mask_ratio: float) -> Tensor:
    """Mask the same central rectangle, about mask_ratio x N patches, shaped like the grid, in each image: B N, bool."""
    _check_num_masked(grid[0] * grid[1], round(mask_ratio * grid[0] * grid[1]))
    height, width = (max(round(mask_ratio**0.5 * side), 1) for side in grid)
    box = [(grid[0] - height) // 2, (grid[1] - width) // 2, height, width]
    return boxes_to_masks(torch.tensor(box, device=rng.stream_position.device), grid).expand(len(rng), -1)  # B N


def region_masks(rng: SampleRNG, grid: tuple[int, int], mask_ratio: float, num_discs: int = 6) -> Tensor:
    """Mask one region of irregular shape, exactly round(mask_ratio x N) patches per image.

    After the random regions of Pathak et al., "Context encoders", 2016 (https://arxiv.org/abs/1604.07379), who take
    shapes from labeled images. Here discs of random radius lie along a random walk, and grow together until enough
    patches are masked.

    Args:
        rng: Random numbers of each image.
        grid: Rows and columns of patches.
        mask_ratio: Fraction of patches to mask, in [0, 1].
        num_discs: Number of steps of the walk.

    Returns:
        B N, bool.

    Raises:
        ValueError: ``mask_ratio`` is not in [0, 1].
    """
    rows, columns = grid
    num_masked = round(mask_ratio * rows * columns)
    _check_num_masked(rows * columns, num_masked)
    radius = rng.uniform("disc radius", num_discs, low=0.5, high=1.5) * (num_masked / num_discs) ** 0.5  # B M, patches
    sides = torch.tensor([rows, columns], device=radius.device)  # 2
    start = rng.uniform("start", 1, 2) * sides  # B 1 2: anywhere
    angle = rng.uniform("angle", num_discs, low=0.0, high=2 * math.pi)  # B M
    step = radius[..., None] * torch.stack([angle.sin(), angle.cos()], -1)  # B M 2
    walk = start + step.cumsum(1) - step[:, :1]  # B M 2
    center = sides - (sides - walk.remainder(2 * sides)).abs()  # B M 2: reflected at the image's edges
    patch = torch.arange(rows * columns, device=radius.device)  # N
    dy = patch // columns + 0.5 - center[..., :1]  # B M N
    dx = patch % columns + 0.5 - center[..., 1:]  # B M N
    # In units of the disc's radius: below 1 inside a disc.
    distance = ((dy.square() + dx.square()).sqrt() / radius[..., None]).amin(1)  # B N
    chosen = distance.argsort(dim=1, stable=True)[:, :num_masked]  # B num_masked
    return torch.zeros_like(distance, dtype=torch.bool).scatter_(1, chosen, True)


def upsample_mask(mask: Tensor, grid: tuple[int, int], factor: int) -> Tensor:
    """Repeat each patch of a mask as factor x factor pixels, or patches of a finer grid.

    Args:
        mask: B N.
        grid: Rows and columns, N = rows x columns.
        factor: Repetitions along each axis (the patch size, for pixels).

    Returns:
        B rows*factor columns*factor; ``[:, None]`` gives an image, ``.flatten(1)`` a mask of the finer grid.
    """
    coarse = mask.unflatten(1, grid)  # B rows columns
    return coarse.repeat_interleave(factor, 1).repeat_interleave(factor, 2)  # B rows*factor columns*factor


def overlay_mask(images: Tensor, mask: Tensor, grid: tuple[int, int], gray: float = 0.86) -> Tensor:
    """Show images with their masked patches in a light gray.

    Args:
        images: B C H W in [0, 1].
        mask: B N, bool: the masked patches.
        grid: Rows and columns of patches.
        gray: Gray value of masked patches, in [0, 1].

    Returns:
        B C H W.
    """
    pixels = upsample_mask(mask, grid, images.shape[-1] // grid[1])[:, None]  # B 1 H W
    return torch.where(pixels, gray, images)
