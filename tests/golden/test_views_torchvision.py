"""Each view equals torchvision's functional of the same parameters, picture by picture, to within 2/255."""

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from headway.draws import Draws
from headway.views import colour
from headway.views.blur import gaussian_blur
from headway.views.geometry import centre_resize, crop_resize, quarter_turns, random_boxes

TOLERANCE = 2 / 255


def pictures(count=6, height=20, width=24, channels=3):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)
    images[0] = 128  # no colour, no contrast
    images[1, 0] = images[1, 1]  # two channels tie
    images[2] = (images[2] > 127) * 255  # pure colours
    return images


def worst(ours, theirs):
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item()


@pytest.mark.parametrize("side", [5, 13, 32])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crop_resize_is_resized_crop(side, dtype):
    images = pictures()
    unit = images.float() / 255
    boxes = random_boxes(Draws(3, torch.arange(6)), 20, 24, scale=(0.05, 1.0))
    boxes[5] = torch.tensor([0, 0, 20, 24])
    flip = torch.tensor([True, False] * 3)
    ours = crop_resize(images if dtype == torch.uint8 else unit, boxes, side, flip)
    crops = [
        TF.resized_crop(u, *map(int, box), (side, side), antialias=True) for u, box in zip(unit, boxes, strict=True)
    ]
    theirs = torch.stack([TF.horizontal_flip(c) if f else c for c, f in zip(crops, flip, strict=True)])
    assert worst(ours, theirs) < 1e-5
    if dtype == torch.uint8:
        whole = [
            TF.resized_crop(u, *map(int, box), (side, side), antialias=True)
            for u, box in zip(images, boxes, strict=True)
        ]
        whole = torch.stack([TF.horizontal_flip(c) if f else c for c, f in zip(whole, flip, strict=True)])
        assert worst(ours, whole.float() / 255) <= TOLERANCE


def test_centre_resize_is_centre_crop_and_resize():
    unit = pictures(height=24, width=30).float() / 255
    theirs = TF.resize(TF.center_crop(unit, [24, 24]), [10, 10], antialias=True)
    assert worst(centre_resize(unit, 10), theirs) < 1e-6


@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high"),
    [
        (colour.brightness, TF.adjust_brightness, 0, 2),
        (colour.contrast, TF.adjust_contrast, 0, 2),
        (colour.saturation, TF.adjust_saturation, 0, 2),
        (colour.hue, TF.adjust_hue, -0.5, 0.5),
    ],
)
def test_colour_is_torchvisions(ours, theirs, low, high):
    images = pictures(12)
    unit = images.float() / 255
    factors = torch.linspace(low, high, 12)
    result = ours(unit, factors)
    floats = torch.stack([theirs(u, f.item()) for u, f in zip(unit, factors, strict=True)])
    assert worst(result, floats) < 1e-5
    bytes_ = torch.stack([theirs(u, f.item()) for u, f in zip(images, factors, strict=True)])
    assert worst(result, bytes_.float() / 255) <= TOLERANCE


def test_grey_and_solarise_are_torchvisions():
    unit = pictures().float() / 255
    which = torch.tensor([True, False, True, True, False, True])
    grey = torch.where(which[:, None, None, None], TF.rgb_to_grayscale(unit, 3), unit)
    assert worst(colour.grey(unit, which), grey) < 1e-6
    solar = torch.where(which[:, None, None, None], TF.solarize(unit, 0.5), unit)
    assert torch.equal(colour.solarise(unit, which), solar)


@pytest.mark.parametrize("kernel", [1, 3, 7, 23])
def test_gaussian_blur_is_torchvisions(kernel):
    unit = pictures().float() / 255
    sigma = torch.linspace(0.1, 2.0, 6)
    theirs = torch.stack(
        [TF.gaussian_blur(u, [kernel, kernel], [s.item()] * 2) for u, s in zip(unit, sigma, strict=True)]
    )
    assert worst(gaussian_blur(unit, sigma, kernel), theirs) < 1e-5


def test_quarter_turns_are_torchs():
    images = pictures(height=20, width=20)
    turns = torch.tensor([0, 1, 2, 3, 1, 3])
    theirs = torch.stack([torch.rot90(i, int(t), (1, 2)) for i, t in zip(images, turns, strict=True)])
    assert torch.equal(quarter_turns(images, turns), theirs)


def test_random_boxes_are_distributed_as_torchvisions():
    scale, ratio, count = (0.2, 1.0), (3 / 4, 4 / 3), 4000
    ours = random_boxes(Draws(0, torch.arange(count)), 48, 64, scale, ratio)
    torch.manual_seed(0)
    transform, image = v2.RandomResizedCrop(32, scale, ratio), torch.zeros(3, 48, 64)
    drawn = [transform.make_params([image]) for _ in range(count)]
    theirs = torch.tensor([[d["top"], d["left"], d["height"], d["width"]] for d in drawn]).float()
    spread = theirs.std(0) / count**0.5
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 6 * spread).all()
    quantiles = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    assert ((ours.quantile(quantiles, 0) - theirs.quantile(quantiles, 0)).abs() <= 2.5).all()
