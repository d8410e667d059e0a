"""What holds for every picture, size and draw."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.draws import Draws
from headway.views import colour
from headway.views.augment import Augment, byol, simclr
from headway.views.crops import multi_crop
from headway.views.geometry import crop_resize, flip, quarter_turns, random_boxes, random_resized_crop
from headway.views.masks import block_masks, keep_indices, random_masks
from headway.views.pixels import to_unit

seeds = st.integers(0, 2**31)
sizes = st.integers(5, 40)
few = settings(max_examples=25, deadline=None)
EVERYTHING = Augment(solarise=0.5, grey=0.3, blur=0.5)


def pictures(seed, batch, height, width, channels=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, channels, height, width), generator=generator, dtype=torch.uint8)


@few
@given(seeds, st.integers(1, 5), sizes, sizes, st.integers(1, 4), st.integers(1, 45))
def test_views_stay_in_range_and_repeat(seed, batch, height, width, channels, side):
    images = pictures(seed, batch, height, width, channels)
    before = images.clone()
    draws = [Draws(seed, torch.arange(batch), step=seed % 7) for _ in range(2)]
    once, again = (EVERYTHING(images, d, side) for d in draws)
    assert once.shape == (batch, channels, side, side) and once.dtype == torch.float32
    assert once.min() >= 0 and once.max() <= 1
    assert torch.equal(once, again)
    assert torch.equal(images, before)


@few
@given(seeds, st.integers(2, 9), st.integers(21, 50), st.integers(20, 45), st.data())
def test_a_batch_cut_in_two_deals_the_same_views_to_the_bit(seed, batch, stored, side, data):
    cut = data.draw(st.integers(1, batch - 1))
    images, places = pictures(seed, batch, stored, stored), torch.arange(100, 100 + batch)
    whole = EVERYTHING(images, Draws(seed, places, 3), side)
    parts = [EVERYTHING(images[part], Draws(seed, places[part], 3), side) for part in (slice(cut), slice(cut, None))]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("threads", [1, 2])
def test_large_pictures_cut_in_two_are_the_same_to_the_bit(threads):
    images, before = pictures(0, 3, 250, 250), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        whole = EVERYTHING(images, Draws(1, torch.arange(3)), 203)
        parts = [EVERYTHING(images[i : i + 1], Draws(1, torch.tensor([i])), 203) for i in range(3)]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(whole, torch.cat(parts))


@few
@given(seeds, st.integers(1, 4), sizes)
def test_four_quarter_turns_and_two_flips_are_nothing(seed, batch, side):
    images, draws = pictures(seed, batch, side, side), Draws(seed, torch.arange(batch))
    turns, which = draws.integers(4), draws.chance(0.5)
    turned = images
    for _ in range(4):
        turned = quarter_turns(turned, turns)
    assert torch.equal(turned, images)
    assert torch.equal(quarter_turns(quarter_turns(images, turns), (4 - turns) % 4), images)
    assert torch.equal(flip(flip(images, which), which), images)


@few
@given(seeds, sizes)
def test_the_whole_box_at_the_same_side_is_the_picture(seed, side):
    images = pictures(seed, 2, side, side)
    boxes = torch.tensor([[0.0, 0.0, side, side]]).expand(2, 4)
    which = torch.tensor([False, True])
    assert torch.equal(crop_resize(images, boxes, side), to_unit(images))
    assert torch.equal(crop_resize(images, boxes, side, which), flip(to_unit(images), which))


@few
@given(seeds, st.integers(1, 60), st.integers(1, 60), st.floats(0.01, 1.0))
def test_boxes_lie_inside(seed, height, width, least):
    top, left, tall, wide = random_boxes(Draws(seed, torch.arange(50)), height, width, (least, 1.0)).unbind(1)
    assert (torch.stack([top, left]) >= 0).all() and (torch.stack([tall, wide]) >= 1).all()
    assert (top + tall <= height).all() and (left + wide <= width).all()
    assert torch.equal(top, top.round()) and torch.equal(tall, tall.round())


@few
@given(seeds, st.floats(0.3, 8.0), st.floats(0.0, 5.0))
def test_fractional_boxes_keep_a_flat_picture_flat(seed, length, start):
    images = torch.full((1, 1, 14, 14), 0.5)
    result = crop_resize(images, torch.tensor([[start, start, length, length]]), 6)
    assert torch.allclose(result, torch.tensor(0.5), atol=1e-6)


@few
@given(seeds, st.integers(1, 12), st.integers(1, 12), st.floats(0, 1))
def test_masks_hide_the_same_number_everywhere(seed, rows, columns, ratio):
    patches, places = rows * columns, torch.arange(6)
    hidden = round(ratio * patches)
    blocks = block_masks(Draws(seed, places), (rows, columns), ratio)
    scattered = random_masks(Draws(seed, places), patches, ratio)
    kept, mask = keep_indices(Draws(seed, places), patches, hidden)
    assert (blocks.sum(1) == hidden).all() and (scattered.sum(1) == hidden).all()
    assert (mask.sum(1) == patches - hidden).all() and not mask.gather(1, kept).any()
    assert (kept.diff(dim=1) > 0).all()
    part = block_masks(Draws(seed, places[4:]), (rows, columns), ratio)
    assert torch.equal(part, blocks[4:])


@few
@given(seeds, st.integers(0, 3))
def test_neutral_factors_leave_a_picture(seed, which):
    unit = to_unit(pictures(seed, 2, 9, 7))
    operation = (colour.brightness, colour.contrast, colour.saturation, colour.hue)[which]
    neutral = torch.tensor([0.0, 0.0] if which == 3 else [1.0, 1.0])
    assert torch.allclose(operation(unit, neutral), unit, atol=1e-6)


def test_presets_deal_different_views_each_call():
    images, draws = pictures(0, 3, 48, 48), Draws(0, torch.arange(3))
    for augment in (simclr(32), simclr(64), *byol(64)):
        first, second = augment(images, draws, 32), augment(images, draws, 32)
        assert not torch.equal(first, second)


def test_multi_crop_shapes():
    images = pictures(0, 3, 48, 48)
    large, small = multi_crop(images, Draws(0, torch.arange(3)), 32, 16, locals_=4)
    assert [tuple(v.shape) for v in large] == [(3, 3, 32, 32)] * 2
    assert [tuple(v.shape) for v in small] == [(3, 3, 16, 16)] * 4


def test_crops_carry_gradients():
    images = torch.rand(2, 3, 9, 9, requires_grad=True)
    random_resized_crop(images, Draws(0, torch.arange(2)), 5).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
