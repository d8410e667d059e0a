"""Each transform equals torchvision's function with the same parameters, image by image, to within 2/255."""

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from headway.rng import SampleRNG
from headway.transforms import color
from headway.transforms.geometry import center_crop_resize, crop_resize, random_boxes, rotate90
from headway.transforms.resample import gaussian_blur

TOLERANCE = 2 / 255


def make_images(count=6, height=20, width=24, channels=3):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)
    images[0] = 128  # no color, no contrast
    images[1, 0] = images[1, 1]  # two channels tie
    images[2] = (images[2] > 127) * 255  # pure colors
    return images


def max_difference(ours, theirs):
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item()


@pytest.mark.parametrize("size", [5, 13, 32])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crop_resize_equals_resized_crop(size, dtype):
    images = make_images()
    unit = images.float() / 255
    boxes = random_boxes(SampleRNG(3, torch.arange(6)), 20, 24, scale=(0.05, 1.0))
    boxes[5] = torch.tensor([0, 0, 20, 24])
    flip = torch.tensor([True, False] * 3)
    ours = crop_resize(images if dtype == torch.uint8 else unit, boxes, size, flip)
    crops = [
        TF.resized_crop(u, *map(int, box), (size, size), antialias=True) for u, box in zip(unit, boxes, strict=True)
    ]
    theirs = torch.stack([TF.horizontal_flip(c) if f else c for c, f in zip(crops, flip, strict=True)])
    assert max_difference(ours, theirs) < 1e-5
    if dtype == torch.uint8:
        whole = [
            TF.resized_crop(u, *map(int, box), (size, size), antialias=True)
            for u, box in zip(images, boxes, strict=True)
        ]
        whole = torch.stack([TF.horizontal_flip(c) if f else c for c, f in zip(whole, flip, strict=True)])
        assert max_difference(ours, whole.float() / 255) <= TOLERANCE


def test_center_crop_resize_equals_center_crop_and_resize():
    unit = make_images(height=24, width=30).float() / 255
    theirs = TF.resize(TF.center_crop(unit, [24, 24]), [10, 10], antialias=True)
    assert max_difference(center_crop_resize(unit, 10), theirs) < 1e-6


@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high"),
    [
        (color.adjust_brightness, TF.adjust_brightness, 0, 2),
        (color.adjust_contrast, TF.adjust_contrast, 0, 2),
        (color.adjust_saturation, TF.adjust_saturation, 0, 2),
        (color.adjust_hue, TF.adjust_hue, -0.5, 0.5),
    ],
)
def test_color_equals_torchvision(ours, theirs, low, high):
    images = make_images(12)
    unit = images.float() / 255
    factors = torch.linspace(low, high, 12)
    result = ours(unit, factors)
    floats = torch.stack([theirs(u, f.item()) for u, f in zip(unit, factors, strict=True)])
    assert max_difference(result, floats) < 1e-5
    bytes_ = torch.stack([theirs(u, f.item()) for u, f in zip(images, factors, strict=True)])
    assert max_difference(result, bytes_.float() / 255) <= TOLERANCE


def test_grayscale_and_solarize_equal_torchvision():
    unit = make_images().float() / 255
    selected = torch.tensor([True, False, True, True, False, True])
    gray = torch.where(selected[:, None, None, None], TF.rgb_to_grayscale(unit, 3), unit)
    assert max_difference(color.grayscale(unit, selected), gray) < 1e-6
    solarized = torch.where(selected[:, None, None, None], TF.solarize(unit, 0.5), unit)
    assert torch.equal(color.solarize(unit, selected), solarized)


@pytest.mark.parametrize("kernel", [1, 3, 7, 23])
def test_gaussian_blur_equals_torchvision(kernel):
    unit = make_images().float() / 255
    sigma = torch.linspace(0.1, 2.0, 6)
    theirs = torch.stack(
        [TF.gaussian_blur(u, [kernel, kernel], [s.item()] * 2) for u, s in zip(unit, sigma, strict=True)]
    )
    assert max_difference(gaussian_blur(unit, sigma, kernel), theirs) < 1e-5


def test_rotate90_equals_torch():
    images = make_images(height=20, width=20)
    turns = torch.tensor([0, 1, 2, 3, 1, 3])
    theirs = torch.stack([torch.rot90(i, int(t), (1, 2)) for i, t in zip(images, turns, strict=True)])
    assert torch.equal(rotate90(images, turns), theirs)


def test_random_boxes_are_distributed_as_in_torchvision():
    scale, ratio, count = (0.2, 1.0), (3 / 4, 4 / 3), 4000
    ours = random_boxes(SampleRNG(0, torch.arange(count)), 48, 64, scale, ratio)
    torch.manual_seed(0)
    transform, image = v2.RandomResizedCrop(32, scale, ratio), torch.zeros(3, 48, 64)
    drawn = [transform.make_params([image]) for _ in range(count)]
    theirs = torch.tensor([[d["top"], d["left"], d["height"], d["width"]] for d in drawn]).float()
    standard_error = theirs.std(0) / count**0.5
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 6 * standard_error).all()
    quantiles = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    assert ((ours.quantile(quantiles, 0) - theirs.quantile(quantiles, 0)).abs() <= 2.5).all()
