"""The presets say what their papers say, and wrong settings are refused."""

import pytest
import torch

from headway.draws import Draws
from headway.errors import HeadwayError
from headway.views.augment import Augment, byol, simclr
from headway.views.crops import dino_augments, multi_crop
from headway.views.geometry import crop_resize, random_boxes


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip": 1.5},
        {"blur": float("nan")},
        {"hue": 0.6},
        {"contrast": -1},
        {"scale": (0.5, 0.2)},
        {"sigma": (0.0, 1.0)},
    ],
)
def test_wrong_settings_are_named(wrong):
    with pytest.raises(HeadwayError, match=next(iter(wrong))):
        Augment(**wrong)


def test_simclr_follows_its_paper():
    assert simclr(224) == Augment()
    small = simclr(32)
    assert (small.blur, small.brightness, small.hue) == (0.0, 0.4, 0.1)
    assert simclr(32, strength=1.0).brightness == 0.8


def test_byol_and_dino_differ_by_view():
    first, second = byol(224)
    assert (first.blur, first.solarise, second.blur, second.solarise) == (1.0, 0.0, 0.1, 0.2)
    assert [kind.blur for kind in dino_augments(224)] == [1.0, 0.1, 0.5]
    assert [kind.blur for kind in dino_augments(32)] == [0.0, 0.0, 0.0]


def test_an_augment_of_nothing_is_a_crop():
    plain = Augment(flip=0, jitter=0, grey=0, blur=0)
    images, places = torch.rand(3, 3, 20, 20), torch.arange(3)
    boxes = random_boxes(Draws(5, places), 20, 20, plain.scale, plain.ratio)
    assert torch.equal(plain(images, Draws(5, places), 12), crop_resize(images, boxes, 12))


def test_multi_crop_takes_one_augment_for_all_or_one_a_view():
    images, places = torch.rand(3, 3, 24, 24), torch.arange(3)
    plain, bright = Augment(jitter=0, grey=0, blur=0), Augment(jitter=0, grey=0, blur=0, solarise=1.0)
    plan = {"global_side": 16, "local_side": 8, "locals_": 3}
    large, small = multi_crop(images, Draws(1, places), **plan, augment=plain)
    assert [v.shape[-1] for v in large + small] == [16, 16, 8, 8, 8]
    _, other = multi_crop(images, Draws(1, places), **plan, augment=[plain, plain, bright])
    assert torch.equal(large[0], multi_crop(images, Draws(1, places), **plan, augment=[plain, bright])[0][0])
    assert all((v < 0.5).all() or v.max() <= 0.5 for v in other)
