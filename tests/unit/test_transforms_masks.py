"""Masks: number of patches, positions, shapes."""

import pytest
import torch

from headway.rng import SampleRNG
from headway.transforms.masks import (
    block_masks,
    boxes_to_masks,
    central_masks,
    random_keep_indices,
    random_masks,
    region_masks,
    upsample_mask,
)


def make_rng():
    return SampleRNG(0, torch.arange(2000))


def test_every_patch_is_masked_equally_often():
    frequency = random_masks(make_rng(), 16, 0.75).float().mean(0)
    assert ((frequency - 0.75).abs() < 0.05).all()


def test_kept_and_masked_are_complements():
    kept, mask = random_keep_indices(SampleRNG(0, torch.arange(5)), 12, 3)
    assert kept.shape == (5, 3)
    assert torch.equal(torch.zeros(5, 12).scatter(1, kept, 1.0) == 0, mask)


@pytest.mark.parametrize("ratio", [-0.5, 1.5])
def test_mask_ratio_outside_of_0_and_1_is_refused(ratio):
    with pytest.raises(ValueError, match="of 16 patches"):
        random_masks(make_rng(), 16, ratio)
    with pytest.raises(ValueError, match="of 16 patches"):
        block_masks(make_rng(), (4, 4), ratio)


def test_boxes_to_masks_marks_a_rectangle():
    inside = boxes_to_masks(torch.tensor([[1, 0, 2, 3]]), (4, 5)).view(4, 5)
    expected = torch.zeros(4, 5, dtype=torch.bool)
    expected[1:3, 0:3] = True
    assert torch.equal(inside, expected)


def test_block_masks_have_more_neighbors_than_random_masks():
    def count_neighbors(mask):
        grid = mask.view(-1, 14, 14)
        return (grid[:, 1:] & grid[:, :-1]).sum() + (grid[:, :, 1:] & grid[:, :, :-1]).sum()

    blocks, random = block_masks(make_rng(), (14, 14), 0.4), random_masks(make_rng(), 196, 0.4)
    assert count_neighbors(blocks) > 1.7 * count_neighbors(random)
    assert blocks.any(0).all()  # every patch is masked sometimes
    half = blocks.view(-1, 14, 14).float().mean(0)
    assert abs(half[:7].mean() - half[7:].mean()) < 0.02 and abs(half[:, :7].mean() - half[:, 7:].mean()) < 0.02


def test_upsample_mask_repeats_each_patch():
    mask = torch.tensor([[True, False, False, True, False, True]])
    fine = upsample_mask(mask, (2, 3), 4)
    assert fine.shape == (1, 8, 12)
    assert torch.equal(fine[:, ::4, ::4].flatten(1), mask)
    assert fine.sum() == 16 * mask.sum()


def test_central_masks_cover_the_center():
    mask = central_masks(SampleRNG(0, torch.arange(3)), (8, 8), 0.25).view(3, 8, 8)
    assert mask[:, 2:6, 2:6].all() and mask.sum() == 3 * 16


def test_region_masks_have_equal_counts_any_position_and_are_connected():
    regions, blocks = (sample(make_rng(), (14, 14), 0.25) for sample in (region_masks, block_masks))
    assert (regions.sum(1) == 49).all()
    assert regions.any(0).all() and len(regions.unique(dim=0)) > 0.9 * len(regions)  # few regions are equal

    def count_neighbors(mask):
        grid = mask.view(-1, 14, 14)
        return (grid[:, 1:] & grid[:, :-1]).sum() + (grid[:, :, 1:] & grid[:, :, :-1]).sum()

    assert count_neighbors(regions) > 0.9 * count_neighbors(blocks)
    half = regions.view(-1, 14, 14).float().mean(0)
    assert abs(half[:7].mean() - half[7:].mean()) < 0.02 and abs(half[:, :7].mean() - half[:, 7:].mean()) < 0.02
