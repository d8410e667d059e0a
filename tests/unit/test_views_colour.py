"""Colour: channels other than three, chosen rows, the shuffled order."""

import torch

from headway.draws import Draws
from headway.views import colour


def test_only_three_channels_have_colour():
    images, which = torch.rand(2, 4, 5, 5), torch.tensor([True, True])
    assert colour.grey(images, which) is images
    assert colour.saturation(images, torch.zeros(2)) is images
    assert colour.hue(images, torch.ones(2)) is images
    flat = colour.contrast(images, torch.zeros(2))
    assert torch.allclose(flat, images.mean((1, 2, 3), keepdim=True).expand_as(flat))


def test_a_whole_turn_of_the_wheel_and_its_thirds():
    red = torch.tensor([0.9, 0.2, 0.2]).view(1, 3, 1, 1)
    assert torch.allclose(colour.hue(red, torch.tensor([1.0])), red, atol=1e-6)
    assert torch.allclose(colour.hue(red, torch.tensor([1 / 3])).flatten(), torch.tensor([0.2, 0.9, 0.2]), atol=1e-6)
    assert torch.allclose(colour.hue(red, torch.tensor([-1 / 3])).flatten(), torch.tensor([0.2, 0.2, 0.9]), atol=1e-6)
    assert torch.allclose(colour.hue(red, torch.tensor([0.5])).flatten(), torch.tensor([0.2, 0.9, 0.9]), atol=1e-6)


def test_jitter_changes_the_chosen_share():
    images = torch.rand(1000, 3, 2, 2)
    result = colour.jitter(images, Draws(0, torch.arange(1000)), probability=0.8)
    changed = (result != images).flatten(1).any(1).float().mean().item()
    assert 0.75 < changed < 0.85
    assert colour.jitter(images, Draws(0, torch.arange(1000)), probability=0.0) is images


def test_the_order_of_jitter_is_shuffled_from_step_to_step_but_not_by_place(monkeypatch):
    seen = []

    def spy(i):
        return lambda images, factor: seen.append(i) or images

    monkeypatch.setattr(colour, "OPERATIONS", tuple(map(spy, range(4))))
    orders = []
    for step, place in ((0, 0), (0, 7), (1, 0), (2, 0), (3, 0)):
        seen.clear()
        colour.jitter(torch.rand(1, 3, 2, 2), Draws(0, torch.tensor([place]), step))
        orders.append(tuple(seen))
    assert orders[0] == orders[1]
    assert len(set(orders)) > 1 and all(sorted(order) == [0, 1, 2, 3] for order in orders)
    seen.clear()
    colour.jitter(torch.rand(1, 3, 2, 2), Draws(0, torch.tensor([0])), hue=0.0, contrast=0.0)
    assert sorted(seen) == [0, 2]


def test_solarise_inverts_the_bright_half():
    images = torch.tensor([0.2, 0.5, 0.9]).view(1, 1, 1, 3)
    assert torch.allclose(colour.solarise(images, torch.tensor([True])).flatten(), torch.tensor([0.2, 0.5, 0.1]))
