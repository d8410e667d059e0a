"""Crops, turns and blur at their edges."""

import pytest
import torch

from headway.draws import Draws
from headway.views.blur import gaussian_blur
from headway.views.geometry import centre_resize, crop_resize, quarter_turns, random_boxes, random_resized_crop

PLACES = torch.arange(4)


def slow_resize(line, start, length, side):
    """Bilinear with a widened triangle, one output pixel at a time."""
    factor, out = length / side, []
    for s in range(side):
        centre, reach = start + factor * (s + 0.5), max(factor, 1)
        weights = [max(0, 1 - abs(p + 0.5 - centre) / reach) for p in range(len(line))]
        weights = [w * min(1, max(0, min(p + 1, start + length) - max(p, start))) for p, w in enumerate(weights)]
        out.append(sum(w * v for w, v in zip(weights, line, strict=True)) / sum(weights))
    return out


@pytest.mark.parametrize(("start", "length", "side"), [(0, 11, 4), (2.3, 5.4, 7), (0.5, 10.5, 3), (4, 0.7, 2)])
def test_fractional_boxes_equal_a_slow_loop(start, length, side):
    line = torch.rand(11)
    images = line.view(1, 1, 1, 11).expand(1, 1, 11, 11)
    result = crop_resize(images, torch.tensor([[start, start, length, length]]), side)[0, 0]
    expected = torch.tensor(slow_resize(line.tolist(), start, length, side))
    assert torch.allclose(result, expected.expand(side, side), atol=1e-5)


def test_boxes_fall_back_to_the_largest_central_one():
    boxes = random_boxes(Draws(0, PLACES), 4, 60, scale=(0.9, 1.0))
    assert boxes.tolist() == [[0, 27, 4, 5]] * 4
    boxes = random_boxes(Draws(0, PLACES), 60, 4, scale=(0.9, 1.0))
    assert boxes.tolist() == [[27, 0, 5, 4]] * 4


def test_flip_may_be_never_or_always():
    images = torch.rand(4, 3, 9, 9)
    never, always = (random_resized_crop(images, Draws(0, PLACES), 6, flip=p) for p in (0.0, 1.0))
    assert torch.allclose(never, always.flip(3), atol=1e-6)


def test_centre_resize_of_the_same_side_is_the_picture():
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(centre_resize(images, 8), images)
    assert torch.equal(centre_resize(torch.cat([images, images], 3), 8), torch.cat([images, images], 3)[..., 4:12])


def test_oblong_pictures_cannot_turn():
    with pytest.raises(ValueError, match="square"):
        quarter_turns(torch.zeros(1, 3, 4, 5), torch.ones(1))


@pytest.mark.parametrize("kernel", [2, 9])
def test_a_kernel_must_be_odd_and_fit(kernel):
    with pytest.raises(ValueError, match="odd number"):
        gaussian_blur(torch.rand(1, 3, 4, 30), torch.ones(1), kernel)


def test_blur_keeps_the_mean_of_a_flat_picture():
    assert torch.allclose(gaussian_blur(torch.full((1, 2, 6, 9), 0.3), torch.ones(1), 5), torch.tensor(0.3))
