"""Multi-crop: a few large (global) views and many small (local) ones of each image.

Caron et al., "Unsupervised learning of visual features by contrasting cluster assignments", 2020
(https://arxiv.org/abs/2006.09882); as used in DINO, 2021 (https://arxiv.org/abs/2104.14294).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from headway.protocol import Batch
from headway.rng import SampleRNG
from headway.transforms.augment import Augment, byol_augments
from headway.transforms.masks import block_masks, num_masked_patches
from headway.transforms.pixels import to_float01


def global_and_local_views(
    images: Tensor,
    rng: SampleRNG,
    global_size: int,
    local_size: int,
    num_global: int = 2,
    num_local: int = 6,
    global_scale: tuple[float, float] = (0.4, 1.0),
    local_scale: tuple[float, float] = (0.05, 0.4),
    augment: Augment | Sequence[Augment] | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Make global and local views of each image.

    Args:
        images: B C H W, uint8 or floating point in [0, 1]: stored images, larger than the views.
        rng: Random numbers of each image.
        global_size: Side of the global views in pixels.
        local_size: Side of the local views in pixels.
        num_global: Number of global views.
        num_local: Number of local views.
        global_scale: Range of a global view's area as a fraction of the image's.
        local_scale: Range of a local view's area as a fraction of the image's.
        augment: Augmentation of the views apart from the crop's scale: one for all, or one per view (global views
            first), of which the last serves all further views. None means ``dino_augments(global_size)``.

    Returns:
        The global views, each B C global_size global_size, and the local ones, B C local_size local_size; in [0, 1].
    """
    augments = dino_augments(global_size) if augment is None else augment
    augments = [augments] if isinstance(augments, Augment) else list(augments)
    images = to_float01(images)  # once for all views

    def make_view(index: int, size: int, scale: tuple[float, float]) -> Tensor:
        return replace(augments[min(index, len(augments) - 1)], scale=scale)(images, rng.fold_in(f"view {index}"), size)

    global_views = [make_view(index, global_size, global_scale) for index in range(num_global)]
    local_views = [make_view(num_global + index, local_size, local_scale) for index in range(num_local)]
    return global_views, local_views


def dino_augments(global_size: int) -> tuple[Augment, Augment, Augment]:
    """Return DINO's augmentations: BYOL's two for the global views, and one with blur probability 1/2 for local views.

    Args:
        global_size: Side of the global views in pixels; up to 32 none of them blurs.
    """
    first, second = byol_augments(global_size)
    return first, second, replace(first, blur_prob=first.blur_prob / 2)


def local_crop_size(global_size: int, patch_size: int) -> int:
    """Return the side of the local views for global views of side ``global_size``, in pixels.

    The ratio is that of the papers, 96 / 224, rounded to whole patches: at least two per side, at most ``global_size``.
    """
    return min(max(round(global_size * 96 / 224 / patch_size), 2) * patch_size, global_size)


class MultiCrop(NamedTuple):
    """Global and local crops as rows, view-major.

    Attributes:
        global_crops: 2*B C S S.
        local_crops: V*B C s s; V may be 0.
    """

    global_crops: Tensor
    local_crops: Tensor


def multi_crop(
    images: Tensor, rng: SampleRNG, crop_sizes: tuple[int, int], config: Any, augment: Augment | None = None
) -> MultiCrop:
    """Make two global crops and several local ones of each image.

    Args:
        images: B C H W.
        rng: Random numbers of each image.
        crop_sizes: Sides of global and of local crops in pixels.
        config: A task's configuration. Its ``num_local_crops``, and ``global_scale`` and ``local_scale``, ranges of the
            area of a crop as fractions of the image's, count.
        augment: As for ``global_and_local_views``.
    """
    large, small = global_and_local_views(
        images, rng, *crop_sizes, 2, config.num_local_crops, config.global_scale, config.local_scale, augment
    )  # lists of B C S S and B C s s
    return MultiCrop(torch.cat(large), torch.cat(small) if small else large[0][:0])


class MaskedMultiCrop(NamedTuple):
    """Global and local crops with a mask of the global ones, as rows, view-major.

    Attributes:
        global_crops: 2*B C S S.
        local_crops: V*B C s s; V may be 0.
        mask: 2*B N, bool: the masked patches of the global crops.
        sample_index: B, index of each image in the data set.
    """

    global_crops: Tensor
    local_crops: Tensor
    mask: Tensor
    sample_index: Tensor


def masked_multi_crop(
    batch: Batch, rng: SampleRNG, crop_sizes: tuple[int, int], grid: tuple[int, int], config: Any
) -> MaskedMultiCrop:
    """Make crops, and mask patches in one global crop of each image.

    The papers mask a crop with probability 1/2. Here one of an image's two global crops is masked, and the number of
    masked patches is drawn once per step. So every image has equally many, and batches can be split.

    Args:
        batch: B images.
        rng: Random numbers: the number of masked patches of the step, the crop and its patches per image.
        crop_sizes: Sides of global and of local crops in pixels.
        grid: Rows and columns of patches in a global crop.
        config: As for ``multi_crop``; the fraction of masked patches is uniform in the range ``mask_ratio``.
    """
    crops = multi_crop(batch.images, rng, crop_sizes, config)
    num_patches = grid[0] * grid[1]
    num_masked = num_masked_patches(num_patches, rng.for_step("mask ratio").uniform(*config.mask_ratio))
    mask = block_masks(rng, grid, num_masked / num_patches)  # B N
    first = rng.bernoulli("masked crop", 0.5)[:, None]  # B 1
    return MaskedMultiCrop(*crops, torch.cat([mask & first, mask & ~first]), batch.sample_index)
