"""Properties of transforms for random images, sizes and seeds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.rng import SampleRNG
from headway.transforms import color
from headway.transforms.augment import Augment, byol_augments, simclr_augment
from headway.transforms.geometry import crop_resize, hflip, random_boxes, random_resized_crop, rotate90
from headway.transforms.masks import block_masks, random_keep_indices, random_masks
from headway.transforms.multi_crop import global_and_local_views
from headway.transforms.pixels import to_float01

seeds = st.integers(0, 2**31)
sizes = st.integers(5, 40)
few = settings(max_examples=25, deadline=None)
EVERYTHING = Augment(solarize_prob=0.5, grayscale_prob=0.3, blur_prob=0.5)


def make_images(seed, batch, height, width, channels=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, channels, height, width), generator=generator, dtype=torch.uint8)


@few
@given(seeds, st.integers(1, 5), sizes, sizes, st.integers(1, 4), st.integers(1, 45))
def test_views_stay_in_range_and_repeat(seed, batch, height, width, channels, size):
    images = make_images(seed, batch, height, width, channels)
    before = images.clone()
    rngs = [SampleRNG(seed, torch.arange(batch), step=seed % 7) for _ in range(2)]
    once, again = (EVERYTHING(images, rng, size) for rng in rngs)
    assert once.shape == (batch, channels, size, size) and once.dtype == torch.float32
    assert once.min() >= 0 and once.max() <= 1
    assert torch.equal(once, again)
    assert torch.equal(images, before)


@few
@given(seeds, st.integers(2, 9), st.integers(21, 50), st.integers(20, 45), st.data())
def test_views_of_a_split_batch_are_equal_bit_for_bit(seed, batch, stored, size, data):
    split = data.draw(st.integers(1, batch - 1))
    images, positions = make_images(seed, batch, stored, stored), torch.arange(100, 100 + batch)
    whole = EVERYTHING(images, SampleRNG(seed, positions, 3), size)
    halves = slice(split), slice(split, None)
    parts = [EVERYTHING(images[half], SampleRNG(seed, positions[half], 3), size) for half in halves]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("threads", [1, 2])
def test_large_images_of_a_split_batch_are_equal_bit_for_bit(threads):
    images, before = make_images(0, 3, 250, 250), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        whole = EVERYTHING(images, SampleRNG(1, torch.arange(3)), 203)
        parts = [EVERYTHING(images[i : i + 1], SampleRNG(1, torch.tensor([i])), 203) for i in range(3)]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(whole, torch.cat(parts))


@few
@given(seeds, st.integers(1, 4), sizes)
def test_four_rotations_and_two_flips_change_nothing(seed, batch, size):
    images, rng = make_images(seed, batch, size, size), SampleRNG(seed, torch.arange(batch))
    turns, selected = rng.integers("turns", 4), rng.bernoulli("selected", 0.5)
    rotated = images
    for _ in range(4):
        rotated = rotate90(rotated, turns)
    assert torch.equal(rotated, images)
    assert torch.equal(rotate90(rotate90(images, turns), (4 - turns) % 4), images)
    assert torch.equal(hflip(hflip(images, selected), selected), images)


@few
@given(seeds, sizes)
def test_the_whole_box_at_the_same_size_is_the_image(seed, size):
    images = make_images(seed, 2, size, size)
    boxes = torch.tensor([[0.0, 0.0, size, size]]).expand(2, 4)
    selected = torch.tensor([False, True])
    assert torch.equal(crop_resize(images, boxes, size), to_float01(images))
    assert torch.equal(crop_resize(images, boxes, size, selected), hflip(to_float01(images), selected))


@few
@given(seeds, st.integers(1, 60), st.integers(1, 60), st.floats(0.01, 1.0))
def test_boxes_lie_inside(seed, height, width, low):
    top, left, box_h, box_w = random_boxes(SampleRNG(seed, torch.arange(50)), height, width, (low, 1.0)).unbind(1)
    assert (torch.stack([top, left]) >= 0).all() and (torch.stack([box_h, box_w]) >= 1).all()
    assert (top + box_h <= height).all() and (left + box_w <= width).all()
    assert torch.equal(top, top.round()) and torch.equal(box_h, box_h.round())


@few
@given(seeds, st.floats(0.3, 8.0), st.floats(0.0, 5.0))
def test_fractional_boxes_do_not_change_a_constant_image(seed, length, start):
    images = torch.full((1, 1, 14, 14), 0.5)
    result = crop_resize(images, torch.tensor([[start, start, length, length]]), 6)
    assert torch.allclose(result, torch.tensor(0.5), atol=1e-6)


@few
@given(seeds, st.integers(1, 12), st.integers(1, 12), st.floats(0, 1))
def test_every_image_has_equally_many_masked_patches(seed, rows, columns, ratio):
    num_patches, positions = rows * columns, torch.arange(6)
    num_masked = round(ratio * num_patches)
    blocks = block_masks(SampleRNG(seed, positions), (rows, columns), ratio)
    random = random_masks(SampleRNG(seed, positions), num_patches, ratio)
    kept, mask = random_keep_indices(SampleRNG(seed, positions), num_patches, num_masked)
    assert (blocks.sum(1) == num_masked).all() and (random.sum(1) == num_masked).all()
    assert (mask.sum(1) == num_patches - num_masked).all() and not mask.gather(1, kept).any()
    assert (kept.diff(dim=1) > 0).all()
    part = block_masks(SampleRNG(seed, positions[4:]), (rows, columns), ratio)
    assert torch.equal(part, blocks[4:])


@few
@given(seeds, st.integers(0, 3))
def test_neutral_factors_change_nothing(seed, selected):
    unit = to_float01(make_images(seed, 2, 9, 7))
    operation = (color.adjust_brightness, color.adjust_contrast, color.adjust_saturation, color.adjust_hue)[selected]
    neutral = torch.tensor([0.0, 0.0] if selected == 3 else [1.0, 1.0])
    assert torch.allclose(operation(unit, neutral), unit, atol=1e-6)


def test_presets_make_different_views_from_each_rng():
    images, rng = make_images(0, 3, 48, 48), SampleRNG(0, torch.arange(3))
    for augment in (simclr_augment(32), simclr_augment(64), *byol_augments(64)):
        first, second = (augment(images, rng.fold_in(name), 32) for name in ("first", "second"))
        assert not torch.equal(first, second)


def test_multi_crop_shapes():
    images = make_images(0, 3, 48, 48)
    large, small = global_and_local_views(images, SampleRNG(0, torch.arange(3)), 32, 16, num_local=4)
    assert [tuple(v.shape) for v in large] == [(3, 3, 32, 32)] * 2
    assert [tuple(v.shape) for v in small] == [(3, 3, 16, 16)] * 4


def test_crops_carry_gradients():
    images = torch.rand(2, 3, 9, 9, requires_grad=True)
    random_resized_crop(images, SampleRNG(0, torch.arange(2)), 5).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
