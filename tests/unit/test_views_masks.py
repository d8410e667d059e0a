"""Masks: counts, places, shapes."""

import pytest
import torch

from headway.draws import Draws
from headway.views.masks import (
    block_masks,
    central_masks,
    keep_indices,
    random_masks,
    rectangles,
    region_masks,
    upscale,
)

MANY = Draws(0, torch.arange(2000))


def test_every_patch_is_hidden_equally_often():
    share = random_masks(MANY, 16, 0.75).float().mean(0)
    assert ((share - 0.75).abs() < 0.05).all()


def test_kept_and_hidden_are_complements():
    kept, mask = keep_indices(Draws(0, torch.arange(5)), 12, 3)
    assert kept.shape == (5, 3)
    assert torch.equal(torch.zeros(5, 12).scatter(1, kept, 1.0) == 0, mask)


@pytest.mark.parametrize("ratio", [-0.5, 1.5])
def test_a_ratio_lies_between_nothing_and_everything(ratio):
    with pytest.raises(ValueError, match="of 16 patches"):
        random_masks(MANY, 16, ratio)
    with pytest.raises(ValueError, match="of 16 patches"):
        block_masks(MANY, (4, 4), ratio)


def test_a_rectangle_is_a_rectangle():
    inside = rectangles(torch.tensor([[1, 0, 2, 3]]), (4, 5)).view(4, 5)
    expected = torch.zeros(4, 5, dtype=torch.bool)
    expected[1:3, 0:3] = True
    assert torch.equal(inside, expected)


def test_blocks_hang_together_more_than_scattered_patches():
    def neighbours(mask):
        grid = mask.view(-1, 14, 14)
        return (grid[:, 1:] & grid[:, :-1]).sum() + (grid[:, :, 1:] & grid[:, :, :-1]).sum()

    blocks, scattered = block_masks(MANY, (14, 14), 0.4), random_masks(MANY, 196, 0.4)
    assert neighbours(blocks) > 1.7 * neighbours(scattered)
    assert blocks.any(0).all()  # no patch is never hidden
    half = blocks.view(-1, 14, 14).float().mean(0)
    assert abs(half[:7].mean() - half[7:].mean()) < 0.02 and abs(half[:, :7].mean() - half[:, 7:].mean()) < 0.02


def test_upscale_repeats_each_patch():
    mask = torch.tensor([[True, False, False, True, False, True]])
    fine = upscale(mask, (2, 3), 4)
    assert fine.shape == (1, 8, 12)
    assert torch.equal(fine[:, ::4, ::4].flatten(1), mask)
    assert fine.sum() == 16 * mask.sum()


def test_the_middle_is_the_middle():
    mask = central_masks(Draws(0, torch.arange(3)), (8, 8), 0.25).view(3, 8, 8)
    assert mask[:, 2:6, 2:6].all() and mask.sum() == 3 * 16


def test_regions_hide_equally_many_anywhere_and_hang_together():
    regions, blocks = (kind(MANY, (14, 14), 0.25) for kind in (region_masks, block_masks))
    assert (regions.sum(1) == 49).all()
    assert regions.any(0).all() and len(regions.unique(dim=0)) > 0.9 * len(regions)  # no two alike, but for a few discs

    def neighbours(mask):
        grid = mask.view(-1, 14, 14)
        return (grid[:, 1:] & grid[:, :-1]).sum() + (grid[:, :, 1:] & grid[:, :, :-1]).sum()

    assert neighbours(regions) > 0.9 * neighbours(blocks)
    half = regions.view(-1, 14, 14).float().mean(0)
    assert abs(half[:7].mean() - half[7:].mean()) < 0.02 and abs(half[:, :7].mean() - half[:, 7:].mean()) < 0.02
