"""Conversion of sRGB to CIE Lab and back. L is lightness (0..100), a runs from green to red, b from blue to yellow.

    X, Y, Z = M linear(r, g, b) / white                linear inverts sRGB's gamma
    L = 116 f(Y) - 16,   a = 500 (f(X) - f(Y)),   b = 200 (f(Y) - f(Z))
    f(t) = t^(1/3), and its tangent line below (6/29)^3

CIE 15, "Colorimetry", and IEC 61966-2-1 (https://en.wikipedia.org/wiki/CIELAB_color_space); white is D65.
"""

import torch
from torch import Tensor

RGB_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
"""X, Y and Z (rows) of red, green and blue: the primaries of ITU-R BT.709."""
XYZ_TO_RGB = ((3.240481, -1.537152, -0.498536), (-0.969255, 1.875990, 0.041556), (0.055647, -0.204041, 1.057311))
"""Red, green and blue (rows) of X, Y and Z: the inverse."""
D65_WHITE = (0.95047, 1.0, 1.08883)
CUBE_ROOT_KNEE = 6 / 29
"""Value of f at which the cube root changes to the line."""


def rgb_to_lab(images: Tensor) -> Tensor:
    """Convert B 3 H W in [0, 1], any floating point, to B 3 H W: L, a, b, in float32 (float64 stays float64).

    Raises:
        ValueError: There are not three channels, or the values are integers.
    """
    _check_rgb(images)
    x = images if images.dtype == torch.float64 else images.float()
    linear = torch.where(x > 0.04045, ((x + 0.055) / 1.055).clamp_min(0) ** 2.4, x / 12.92)
    xyz = _mix_channels(linear, RGB_TO_XYZ)  # B H W each
    relative = [value / white for value, white in zip(xyz, D65_WHITE, strict=True)]  # B H W each
    fx, fy, fz = [
        torch.where(
            t > CUBE_ROOT_KNEE**3, t.clamp_min(CUBE_ROOT_KNEE**3) ** (1 / 3), t / (3 * CUBE_ROOT_KNEE**2) + 4 / 29
        )
        for t in relative
    ]
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], 1)  # B 3 H W


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Invert ``rgb_to_lab``: B 3 H W -> B 3 H W in [0, 1]. Colors outside of sRGB are clamped to its range.

    Raises:
        ValueError: There are not three channels, or the values are integers.
    """
    _check_rgb(lab)
    lightness, a, b = (lab if lab.dtype == torch.float64 else lab.float()).unbind(1)  # B H W each
    fy = (lightness + 16) / 116
    xyz = [
        torch.where(f > CUBE_ROOT_KNEE, f**3, 3 * CUBE_ROOT_KNEE**2 * (f - 4 / 29)) * white
        for f, white in zip((fy + a / 500, fy, (fy - b / 200).clamp_min(0)), D65_WHITE, strict=True)
    ]
    linear = torch.stack(_mix_channels(torch.stack(xyz, 1), XYZ_TO_RGB), 1)  # B 3 H W
    bright = 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, bright, 12.92 * linear).clamp(0, 1)


def _mix_channels(images: Tensor, rows: tuple[tuple[float, float, float], ...]) -> list[Tensor]:
    """Multiply each pixel by a 3 x 3 matrix. A matrix product may round differently for another batch size."""
    first, second, third = images.unbind(1)  # B H W each
    return [first * row[0] + second * row[1] + third * row[2] for row in rows]


def _check_rgb(images: Tensor) -> None:
    if images.dim() != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(f"color conversion takes B 3 H W, floating point, got {tuple(images.shape)} of {images.dtype}")
