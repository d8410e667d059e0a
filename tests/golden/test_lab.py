"""Lab conversion equals the CIE's formulas, pixel by pixel, and scikit-image where it is installed."""

import itertools

import numpy as np
import pytest
import torch

from headway.backbones.input_normalizer import InputNormalizer
from headway.protocol import InputSpec
from headway.synthetic import DrawnAnimals
from headway.transforms.lab import lab_to_rgb, rgb_to_lab

KNOWN = {  # published values for D65, to the digits on which sources agree
    (0.0, 0.0, 0.0): (0.0, 0.0, 0.0),
    (1.0, 1.0, 1.0): (100.0, 0.0, 0.0),
    (1.0, 0.0, 0.0): (53.24, 80.09, 67.20),
    (0.0, 1.0, 0.0): (87.73, -86.18, 83.18),
    (0.0, 0.0, 1.0): (32.30, 79.19, -107.86),
}


def pixels(count=4000):
    random = torch.rand(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    dark = random[: count // 4] * 0.06  # both sides of the knees
    corners = torch.tensor(list(itertools.product([0.0, 0.5, 1.0], repeat=3)), dtype=torch.float64)
    return torch.cat([random, dark, corners])  # P 3


def as_images(rows):
    return rows.T.reshape(1, 3, 1, -1)  # 1 3 1 P


def as_rows(images):
    return images[0, :, 0].T  # P 3


def slow_lab(rgb):
    linear = [((c + 0.055) / 1.055) ** 2.4 if c > 0.04045 else c / 12.92 for c in rgb]
    matrix = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    f = []
    for row, white in zip(matrix, (0.95047, 1.0, 1.08883), strict=True):
        t = sum(m * c for m, c in zip(row, linear, strict=True)) / white
        f.append(t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116)
    return [116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_lab_is_the_formula(dtype):
    rows = pixels().to(dtype)
    expected = torch.tensor([slow_lab(rgb) for rgb in rows.double().tolist()], dtype=torch.float64)
    lab = rgb_to_lab(as_images(rows))
    assert lab.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (as_rows(lab) - expected).abs().max() < 1e-3


@pytest.mark.parametrize("rgb", KNOWN)
def test_known_colors(rgb):
    lab = as_rows(rgb_to_lab(as_images(torch.tensor([rgb]))))[0].tolist()
    assert lab == pytest.approx(KNOWN[rgb], abs=0.02)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.float32, 1e-4)])
def test_round_trip(dtype, tolerance):
    images = as_images(pixels()).to(dtype)
    assert (lab_to_rgb(rgb_to_lab(images)) - images).abs().max() < tolerance


def test_colors_outside_of_srgb_are_clamped():
    rgb = lab_to_rgb(torch.tensor([50.0, 120.0, -120.0]).view(1, 3, 1, 1).expand(2, 3, 4, 4))
    assert rgb.min() == 0 and rgb.max() <= 1 and torch.isfinite(rgb).all()


def test_equals_scikit_image():
    color = pytest.importorskip("skimage.color", reason="scikit-image is not installed")
    rows = pixels()
    theirs = color.rgb2lab(rows.numpy())
    assert np.abs(as_rows(rgb_to_lab(as_images(rows))).numpy() - theirs).max() < 1e-3
    random_lab = np.random.default_rng(0).uniform([0, -90, -100], [100, 90, 90], (2000, 3))
    with pytest.warns(UserWarning):  # scikit-image warns of a negative Z
        theirs = color.lab2rgb(random_lab)
    assert np.abs(as_rows(lab_to_rgb(as_images(torch.from_numpy(random_lab)))).numpy() - theirs).max() < 1e-3


def test_other_shapes_and_types_are_refused():
    for images in (torch.zeros(1, 1, 2, 2), torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.zeros(3, 2, 2)):
        for convert in (rgb_to_lab, lab_to_rgb):
            with pytest.raises(ValueError, match="B 3 H W"):
                convert(images)


def test_grayscale_of_a_backbone_correlates_with_lightness():
    animals = DrawnAnimals(20, 32)
    images = torch.stack([animals.image(i) for i in range(20)]).float() / 255  # 20 3 32 32
    gray = InputNormalizer(InputSpec((0.0,) * 3, (1.0,) * 3, grayscale=True))(images, torch.float32)[:, 0]  # 20 32 32
    lightness = rgb_to_lab(images)[:, 0] / 100  # 20 32 32
    assert torch.corrcoef(torch.stack([gray.flatten(), lightness.flatten()]))[0, 1] > 0.99
