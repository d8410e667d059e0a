"""Conversion to [0, 1], and functions applied to selected images or chunks."""

import pytest
import torch

from headway.transforms.pixels import apply_to_selected, map_chunks, to_float01


def test_to_float01_scales_bytes_but_not_floats():
    assert to_float01(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    assert to_float01(torch.tensor([0.25], dtype=torch.float64)).dtype == torch.float32
    assert to_float01(torch.tensor([0.25])).item() == 0.25


def test_to_float01_refuses_other_types():
    with pytest.raises(ValueError, match="int64"):
        to_float01(torch.zeros(1, 1, 1, 1, dtype=torch.int64))


def test_apply_to_selected_changes_selected_images_only():
    images = torch.rand(5, 3, 4, 4)
    before, selected = images.clone(), torch.tensor([True, False, True, False, False])
    result = apply_to_selected(images, selected, scale, torch.arange(5.0))
    assert torch.equal(images, before)
    assert torch.equal(result[~selected], images[~selected])
    assert torch.equal(result[2], images[2] * 2)
    assert apply_to_selected(images, selected & False, lambda images: images * 0) is images


def scale(images, factors):
    return images * factors[:, None, None, None]


def test_chunks_of_a_large_batch_equal_the_whole():
    images, factors = torch.rand(5, 3, 200, 200), torch.rand(5)
    assert torch.equal(map_chunks(scale, images, factors), scale(images, factors))
    assert torch.equal(apply_to_selected(images, factors >= 0, scale, factors), scale(images, factors))
