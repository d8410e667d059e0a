"""Multi-crop: a few large views and many small ones of each picture.

Caron et al., "Unsupervised learning of visual features by contrasting cluster assignments", 2020
(https://arxiv.org/abs/2006.09882); as used in DINO, 2021 (https://arxiv.org/abs/2104.14294).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from headway.draws import Draws
from headway.protocol import Batch
from headway.views.augment import Augment, byol
from headway.views.masks import block_masks, hidden_count
from headway.views.pixels import to_unit


def multi_crop(
    images: Tensor,
    draws: Draws,
    global_side: int,
    local_side: int,
    globals_: int = 2,
    locals_: int = 6,
    global_scale: tuple[float, float] = (0.4, 1.0),
    local_scale: tuple[float, float] = (0.05, 0.4),
    augment: Augment | Sequence[Augment] | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Deal global and local views of each picture.

    Args:
        images: B C H W, uint8 or floating point in [0, 1]: stored pictures, larger than the views.
        draws: Chance, per picture.
        global_side: Of the global views, in pixels.
        local_side: Of the local ones.
        globals_: How many global views.
        locals_: How many local ones.
        global_scale: Area of a global view as a share of the picture's.
        local_scale: Area of a local one.
        augment: What is done to the views beside the crop: one for all, or one a view (first the global ones), the last
            of which serves all that follow. None means ``dino_augments(global_side)``.

    Returns:
        The global views, each B C global_side global_side, and the local ones, B C local_side local_side; in [0, 1].
    """
    kinds = dino_augments(global_side) if augment is None else augment
    kinds = [kinds] if isinstance(kinds, Augment) else list(kinds)
    images = to_unit(images)  # once for all views

    def deal(number: int, side: int, scale: tuple[float, float]) -> Tensor:
        return replace(kinds[min(number, len(kinds) - 1)], scale=scale)(images, draws, side)

    large = [deal(number, global_side, global_scale) for number in range(globals_)]
    small = [deal(globals_ + number, local_side, local_scale) for number in range(locals_)]
    return large, small


def dino_augments(side: int) -> tuple[Augment, Augment, Augment]:
    """DINO's: BYOL's two for the global views, and one that is blurred half the time for the local ones.

    Args:
        side: Of the global views, in pixels; up to 32 nothing is blurred.
    """
    first, second = byol(side)
    return first, second, replace(first, blur=first.blur / 2)


def small_side(large: int, patch: int) -> int:
    """Side of the local views beside global ones of side ``large``, in pixels.

    The papers' 96 beside 224, in whole patches: at least two a side, and no larger than ``large``.
    """
    return min(max(round(large * 96 / 224 / patch), 2) * patch, large)


class Crops(NamedTuple):
    """Large and small crops as rows, view-major.

    Attributes:
        large: 2*B C S S.
        small: V*B C s s; V may be 0.
    """

    large: Tensor
    small: Tensor


def deal_crops(
    images: Tensor, draws: Draws, sides: tuple[int, int], small_crops: int,
    scales: tuple[tuple[float, float], tuple[float, float]], augment: Augment | None = None,
) -> Crops:  # fmt: skip
    """Two large crops and several small ones of each picture.

    Args:
        images: B C H W.
        draws: Chance, per picture.
        sides: Of large and of small crops, in pixels.
        small_crops: How many a picture.
        scales: Share of the area in a large and in a small crop.
        augment: As for ``multi_crop``.
    """
    large, small = multi_crop(
        images, draws, *sides, locals_=small_crops, global_scale=scales[0], local_scale=scales[1], augment=augment
    )  # lists of B C S S and B C s s
    return Crops(torch.cat(large), torch.cat(small) if small else large[0][:0])


class MaskedCrops(NamedTuple):
    """Crops with holes, as rows, view-major.

    Attributes:
        large: 2*B C S S.
        small: V*B C s s; V may be 0.
        mask: 2*B N, bool: the patches of the large crops that are hidden.
        number: B, the pictures' positions in the data.
    """

    large: Tensor
    small: Tensor
    mask: Tensor
    number: Tensor


def masked_crops(
    batch: Batch, draws: Draws, sides: tuple[int, int], grid: tuple[int, int], small_crops: int,
    scales: tuple[tuple[float, float], tuple[float, float]], ratio: tuple[float, float],
) -> MaskedCrops:  # fmt: skip
    """Deal crops, and hide patches in one large crop of each picture.

    The papers hide patches in a crop with probability 1/2. Here one of a picture's two large crops is chosen, and the
    number of patches is drawn once a step: so every picture hides equally many, and batches can be split.

    Args:
        batch: B pictures.
        draws: Chance: how many patches from ``draws.step``, which crop and which patches per picture.
        sides: Of large and of small crops, in pixels.
        grid: Rows and columns of patches in a large crop.
        small_crops: How many a picture.
        scales: Share of the area in a large and in a small crop.
        ratio: Share of the patches to hide, uniform in this range.
    """
    crops = deal_crops(batch.images, draws, sides, small_crops, scales)
    patches = grid[0] * grid[1]
    hidden = hidden_count(patches, draws.step.uniform(*ratio))
    mask = block_masks(draws, grid, hidden / patches)  # B N
    first = draws.chance(0.5)[:, None]  # B 1
    return MaskedCrops(*crops, torch.cat([mask & first, mask & ~first]), batch.index)
