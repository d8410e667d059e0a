"""Crops, rotations and blur in edge cases."""

import pytest
import torch

from headway.rng import SampleRNG
from headway.transforms.geometry import center_crop_resize, crop_resize, random_boxes, random_resized_crop, rotate90
from headway.transforms.resample import gaussian_blur

POSITIONS = torch.arange(4)


def slow_resize(line, start, length, size):
    """Resize with a widened triangle filter, one output pixel at a time."""
    factor, out = length / size, []
    for s in range(size):
        center, radius = start + factor * (s + 0.5), max(factor, 1)
        weights = [max(0, 1 - abs(p + 0.5 - center) / radius) for p in range(len(line))]
        weights = [w * min(1, max(0, min(p + 1, start + length) - max(p, start))) for p, w in enumerate(weights)]
        out.append(sum(w * v for w, v in zip(weights, line, strict=True)) / sum(weights))
    return out


@pytest.mark.parametrize(("start", "length", "size"), [(0, 11, 4), (2.3, 5.4, 7), (0.5, 10.5, 3), (4, 0.7, 2)])
def test_fractional_boxes_equal_a_slow_loop(start, length, size):
    line = torch.rand(11)
    images = line.view(1, 1, 1, 11).expand(1, 1, 11, 11)
    result = crop_resize(images, torch.tensor([[start, start, length, length]]), size)[0, 0]
    expected = torch.tensor(slow_resize(line.tolist(), start, length, size))
    assert torch.allclose(result, expected.expand(size, size), atol=1e-5)


def test_boxes_fall_back_to_the_largest_central_one():
    boxes = random_boxes(SampleRNG(0, POSITIONS), 4, 60, scale=(0.9, 1.0))
    assert boxes.tolist() == [[0, 27, 4, 5]] * 4
    boxes = random_boxes(SampleRNG(0, POSITIONS), 60, 4, scale=(0.9, 1.0))
    assert boxes.tolist() == [[27, 0, 5, 4]] * 4


def test_flip_with_probability_zero_or_one():
    images = torch.rand(4, 3, 9, 9)
    never, always = (random_resized_crop(images, SampleRNG(0, POSITIONS), 6, flip_prob=p) for p in (0.0, 1.0))
    assert torch.allclose(never, always.flip(3), atol=1e-6)


def test_center_crop_resize_to_the_same_size_changes_nothing():
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(center_crop_resize(images, 8), images)
    assert torch.equal(center_crop_resize(torch.cat([images, images], 3), 8), torch.cat([images, images], 3)[..., 4:12])


def test_images_that_are_not_square_cannot_be_rotated():
    with pytest.raises(ValueError, match="square"):
        rotate90(torch.zeros(1, 3, 4, 5), torch.ones(1))


@pytest.mark.parametrize("kernel", [2, 9])
def test_kernel_must_be_odd_and_fit(kernel):
    with pytest.raises(ValueError, match="odd number"):
        gaussian_blur(torch.rand(1, 3, 4, 30), torch.ones(1), kernel)


def test_blur_does_not_change_a_constant_image():
    assert torch.allclose(gaussian_blur(torch.full((1, 2, 6, 9), 0.3), torch.ones(1), 5), torch.tensor(0.3))
