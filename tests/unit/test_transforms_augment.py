"""The presets have the values of their papers, and invalid values are refused."""

import pytest
import torch

from headway.errors import HeadwayError
from headway.rng import SampleRNG
from headway.transforms.augment import Augment, byol_augments, simclr_augment
from headway.transforms.geometry import crop_resize, random_boxes
from headway.transforms.multi_crop import dino_augments, global_and_local_views


@pytest.mark.parametrize(
    "invalid",
    [
        {"flip_prob": 1.5},
        {"blur_prob": float("nan")},
        {"hue": 0.6},
        {"contrast": -1},
        {"scale": (0.5, 0.2)},
        {"sigma": (0.0, 1.0)},
    ],
)
def test_invalid_values_are_named(invalid):
    with pytest.raises(HeadwayError, match=next(iter(invalid))):
        Augment(**invalid)


def test_simclr_follows_its_paper():
    assert simclr_augment(224) == Augment()
    small = simclr_augment(32)
    assert (small.blur_prob, small.brightness, small.hue) == (0.0, 0.4, 0.1)
    assert simclr_augment(32, strength=1.0).brightness == 0.8


def test_byol_and_dino_differ_by_view():
    first, second = byol_augments(224)
    assert (first.blur_prob, first.solarize_prob, second.blur_prob, second.solarize_prob) == (1.0, 0.0, 0.1, 0.2)
    assert [augment.blur_prob for augment in dino_augments(224)] == [1.0, 0.1, 0.5]
    assert [augment.blur_prob for augment in dino_augments(32)] == [0.0, 0.0, 0.0]


def test_augment_with_zero_probabilities_is_a_crop():
    plain = Augment(flip_prob=0, jitter_prob=0, grayscale_prob=0, blur_prob=0)
    images, positions = torch.rand(3, 3, 20, 20), torch.arange(3)
    boxes = random_boxes(SampleRNG(5, positions), 20, 20, plain.scale, plain.ratio)
    assert torch.equal(plain(images, SampleRNG(5, positions), 12), crop_resize(images, boxes, 12))


def test_multi_crop_accepts_one_augment_for_all_views_or_one_each():
    images, positions = torch.rand(3, 3, 24, 24), torch.arange(3)
    plain, solarized = (
        Augment(jitter_prob=0, grayscale_prob=0, blur_prob=0),
        Augment(jitter_prob=0, grayscale_prob=0, blur_prob=0, solarize_prob=1.0),
    )

    def make_views(augment):
        return global_and_local_views(images, SampleRNG(1, positions), 16, 8, num_local=3, augment=augment)

    large, small = make_views(plain)
    assert [v.shape[-1] for v in large + small] == [16, 16, 8, 8, 8]
    _, other = make_views([plain, plain, solarized])
    assert torch.equal(large[0], make_views([plain, solarized])[0][0])
    assert all((v < 0.5).all() or v.max() <= 0.5 for v in other)
