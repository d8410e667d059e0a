"""I-JEPA's blocks, on small grids above all."""

import pytest
import torch

from headway.draws import Draws
from headway.errors import HeadwayError
from headway.views.blocks import context_and_targets
from headway.views.masks import block_masks, covered, grid_for, hidden_count

GRIDS = [(2, 2), (3, 3), (4, 4), (8, 8), (4, 6), (14, 14)]
PICTURES = 400


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("step", range(6))
def test_every_picture_keeps_equally_much_and_targets_are_rectangles_outside(grid, step):
    blocks = context_and_targets(Draws(0, torch.arange(PICTURES), step), grid)
    patches = grid[0] * grid[1]
    assert blocks.context.shape[0] == PICTURES and blocks.context.shape[1] >= 1
    seen = torch.zeros(PICTURES, patches).scatter(1, blocks.context, 1.0)
    assert (seen.sum(1) == blocks.context.shape[1]).all(), "no patch is kept twice"
    assert torch.equal(blocks.context, blocks.context.sort(1).values)
    hidden = torch.zeros(PICTURES, patches).scatter(1, blocks.targets.flatten(1), 1.0)
    assert (seen * hidden).sum() == 0, "a target is in the context"
    row, column = blocks.targets // grid[1], blocks.targets % grid[1]
    tall, wide = (place.amax(2) - place.amin(2) + 1 for place in (row, column))
    assert (tall * wide == blocks.targets.shape[2]).all() and (tall == tall[0, 0]).all() and (wide == wide[0, 0]).all()
    assert blocks.targets.min() >= 0 and blocks.targets.max() < patches


def test_sizes_change_from_step_to_step_and_places_from_picture_to_picture():
    sizes = {context_and_targets(Draws(0, torch.arange(4), step), (14, 14)).targets.shape[2] for step in range(20)}
    assert len(sizes) > 3 and all(0.1 * 196 < size < 0.25 * 196 for size in sizes)
    corners = context_and_targets(Draws(0, torch.arange(PICTURES)), (4, 4)).targets[:, 0, 0]
    assert len(corners.unique()) >= 9


def test_on_small_grids_targets_seldom_pile_up():
    blocks = context_and_targets(Draws(0, torch.arange(PICTURES)), (4, 4))
    hidden = torch.zeros(PICTURES, 16).scatter(1, blocks.targets.flatten(1), 1.0).sum(1)
    assert hidden.mean() > 1.5 * blocks.targets.shape[2]
    assert (hidden == blocks.targets.shape[2]).float().mean() < 0.02, "the heap of targets is for want of anything else"


def test_a_target_as_large_as_the_context_is_refused():
    with pytest.raises(ValueError, match="leaves nothing"):
        context_and_targets(Draws(0, torch.arange(3)), (2, 2), target_scale=(0.9, 0.9), context_scale=(0.95, 1.0))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.6, 0.99])
def test_block_masks_hide_some_and_leave_some_on_every_grid(grid, ratio):
    patches = grid[0] * grid[1]
    hidden = hidden_count(patches, ratio)
    mask = block_masks(Draws(0, torch.arange(50)), grid, hidden / patches)
    assert 1 <= hidden < patches and (mask.sum(1) == hidden).all()


def test_too_few_patches_to_hide_any_are_refused():
    assert grid_for(32, 8) == (4, 4)
    with pytest.raises(HeadwayError, match="2 x 2 patches"):
        grid_for(32, 32)
    with pytest.raises(ValueError, match="none can be hidden"):
        hidden_count(1, 0.5)


def test_covered_pictures_show_what_is_seen():
    images, mask = torch.rand(1, 3, 4, 4), torch.tensor([[True, False, False, False]])
    shown = covered(images, mask, (2, 2), shade=0.5)
    assert (shown[..., :2, :2] == 0.5).all() and torch.equal(shown[..., 2:, :], images[..., 2:, :])
    assert torch.equal(shown[..., :2, 2:], images[..., :2, 2:])
