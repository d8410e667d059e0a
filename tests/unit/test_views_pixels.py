"""Pictures in [0, 1], and changing some of a batch."""

import pytest
import torch

from headway.views.pixels import in_parts, on_chosen, to_unit


def test_to_unit_scales_bytes_and_leaves_fractions():
    assert to_unit(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    assert to_unit(torch.tensor([0.25], dtype=torch.float64)).dtype == torch.float32
    assert to_unit(torch.tensor([0.25])).item() == 0.25


def test_to_unit_refuses_other_numbers():
    with pytest.raises(ValueError, match="int64"):
        to_unit(torch.zeros(1, 1, 1, 1, dtype=torch.int64))


def test_on_chosen_touches_only_the_chosen():
    images = torch.rand(5, 3, 4, 4)
    before, which = images.clone(), torch.tensor([True, False, True, False, False])
    result = on_chosen(images, which, scale, torch.arange(5.0))
    assert torch.equal(images, before)
    assert torch.equal(result[~which], images[~which])
    assert torch.equal(result[2], images[2] * 2)
    assert on_chosen(images, which & False, lambda chosen: chosen * 0) is images


def scale(pictures, by):
    return pictures * by[:, None, None, None]


def test_parts_of_a_large_batch_are_the_whole():
    images, factors = torch.rand(5, 3, 200, 200), torch.rand(5)
    assert torch.equal(in_parts(scale, images, factors), scale(images, factors))
    assert torch.equal(on_chosen(images, factors >= 0, scale, factors), scale(images, factors))
