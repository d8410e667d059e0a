"""I-JEPA's blocks, mainly on small grids."""

import pytest
import torch

from headway.rng import SampleRNG
from headway.transforms.ijepa_blocks import sample_ijepa_blocks
from headway.transforms.masks import block_masks, maskable_grid, num_masked_patches, overlay_mask
from tests.errors import raises

GRIDS = [(2, 2), (3, 3), (4, 4), (8, 8), (4, 6), (14, 14)]
IMAGES = 400


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("step", range(6))
def test_contexts_have_equal_size_and_targets_are_rectangles_outside_of_them(grid, step):
    blocks = sample_ijepa_blocks(SampleRNG(0, torch.arange(IMAGES), step), grid)
    patches = grid[0] * grid[1]
    assert blocks.context_indices.shape[0] == IMAGES and blocks.context_indices.shape[1] >= 1
    in_context = torch.zeros(IMAGES, patches).scatter(1, blocks.context_indices, 1.0)
    assert (in_context.sum(1) == blocks.context_indices.shape[1]).all(), "a patch is in the context twice"
    assert torch.equal(blocks.context_indices, blocks.context_indices.sort(1).values)
    masked = torch.zeros(IMAGES, patches).scatter(1, blocks.target_indices.flatten(1), 1.0)
    assert (in_context * masked).sum() == 0, "a target is in the context"
    row, column = blocks.target_indices // grid[1], blocks.target_indices % grid[1]
    height, width = (index.amax(2) - index.amin(2) + 1 for index in (row, column))
    assert (height * width == blocks.target_indices.shape[2]).all()
    assert (height == height[0, 0]).all() and (width == width[0, 0]).all()
    assert blocks.target_indices.min() >= 0 and blocks.target_indices.max() < patches


def test_sizes_depend_on_the_step_and_positions_on_the_image():
    sizes = {
        sample_ijepa_blocks(SampleRNG(0, torch.arange(4), step), (14, 14)).target_indices.shape[2] for step in range(20)
    }
    assert len(sizes) > 3 and all(0.1 * 196 < size < 0.25 * 196 for size in sizes)
    corners = sample_ijepa_blocks(SampleRNG(0, torch.arange(IMAGES)), (4, 4)).target_indices[:, 0, 0]
    assert len(corners.unique()) >= 9


def test_targets_rarely_coincide_on_small_grids():
    blocks = sample_ijepa_blocks(SampleRNG(0, torch.arange(IMAGES)), (4, 4))
    masked = torch.zeros(IMAGES, 16).scatter(1, blocks.target_indices.flatten(1), 1.0).sum(1)
    assert masked.mean() > 1.5 * blocks.target_indices.shape[2]
    all_in_one_place = (masked == blocks.target_indices.shape[2]).float().mean()
    assert all_in_one_place < 0.02, "this is the last resort"


def test_a_target_as_large_as_the_context_is_refused():
    with pytest.raises(ValueError, match="could cover the context"):
        sample_ijepa_blocks(SampleRNG(0, torch.arange(3)), (2, 2), target_scale=(0.9, 0.9), context_scale=(0.95, 1.0))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.6, 0.99])
def test_block_masks_leave_masked_and_visible_patches_on_every_grid(grid, ratio):
    patches = grid[0] * grid[1]
    masked = num_masked_patches(patches, ratio)
    mask = block_masks(SampleRNG(0, torch.arange(50)), grid, masked / patches)
    assert 1 <= masked < patches and (mask.sum(1) == masked).all()


def test_too_few_patches_for_masking_are_refused():
    assert maskable_grid(32, 8) == (4, 4)
    with raises("image-size"):
        maskable_grid(32, 32)
    with pytest.raises(ValueError, match="none can be masked"):
        num_masked_patches(1, 0.5)


def test_overlay_mask_keeps_visible_patches():
    images, mask = torch.rand(1, 3, 4, 4), torch.tensor([[True, False, False, False]])
    shown = overlay_mask(images, mask, (2, 2), gray=0.5)
    assert (shown[..., :2, :2] == 0.5).all() and torch.equal(shown[..., 2:, :], images[..., 2:, :])
    assert torch.equal(shown[..., :2, 2:], images[..., :2, 2:])
