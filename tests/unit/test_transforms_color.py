"""Color transforms: other numbers of channels, selected images, the random order of color jitter."""

import torch

from headway.rng import SampleRNG
from headway.transforms import color


def test_images_without_three_channels_have_no_color():
    images, selected = torch.rand(2, 4, 5, 5), torch.tensor([True, True])
    assert color.grayscale(images, selected) is images
    assert color.adjust_saturation(images, torch.zeros(2)) is images
    assert color.adjust_hue(images, torch.ones(2)) is images
    flat = color.adjust_contrast(images, torch.zeros(2))
    assert torch.allclose(flat, images.mean((1, 2, 3), keepdim=True).expand_as(flat))


def test_hue_shifts_by_known_fractions():
    red = torch.tensor([0.9, 0.2, 0.2]).view(1, 3, 1, 1)
    assert torch.allclose(color.adjust_hue(red, torch.tensor([1.0])), red, atol=1e-6)
    assert torch.allclose(
        color.adjust_hue(red, torch.tensor([1 / 3])).flatten(), torch.tensor([0.2, 0.9, 0.2]), atol=1e-6
    )
    assert torch.allclose(
        color.adjust_hue(red, torch.tensor([-1 / 3])).flatten(), torch.tensor([0.2, 0.2, 0.9]), atol=1e-6
    )
    assert torch.allclose(
        color.adjust_hue(red, torch.tensor([0.5])).flatten(), torch.tensor([0.2, 0.9, 0.9]), atol=1e-6
    )


def test_jitter_changes_the_expected_fraction_of_images():
    images = torch.rand(1000, 3, 2, 2)
    result = color.color_jitter(images, SampleRNG(0, torch.arange(1000)), probability=0.8)
    changed = (result != images).flatten(1).any(1).float().mean().item()
    assert 0.75 < changed < 0.85
    assert color.color_jitter(images, SampleRNG(0, torch.arange(1000)), probability=0.0) is images


def test_order_of_jitter_depends_on_the_step_but_not_on_the_stream_position(monkeypatch):
    applied = []

    def record(i):
        return lambda images, factor: applied.append(i) or images

    monkeypatch.setattr(color, "JITTER_OPERATIONS", tuple(map(record, range(4))))
    orders = []
    for step, position in ((0, 0), (0, 7), (1, 0), (2, 0), (3, 0)):
        applied.clear()
        color.color_jitter(torch.rand(1, 3, 2, 2), SampleRNG(0, torch.tensor([position]), step))
        orders.append(tuple(applied))
    assert orders[0] == orders[1]
    assert len(set(orders)) > 1 and all(sorted(order) == [0, 1, 2, 3] for order in orders)
    applied.clear()
    color.color_jitter(torch.rand(1, 3, 2, 2), SampleRNG(0, torch.tensor([0])), hue=0.0, contrast=0.0)
    assert sorted(applied) == [0, 2]


def test_solarize_inverts_the_bright_half():
    images = torch.tensor([0.2, 0.5, 0.9]).view(1, 1, 1, 3)
    assert torch.allclose(color.solarize(images, torch.tensor([True])).flatten(), torch.tensor([0.2, 0.5, 0.1]))
