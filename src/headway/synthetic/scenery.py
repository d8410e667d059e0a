"""Scenery: sky above, ground below, plants and other props. It is always upright and independent of the class."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from headway.synthetic import props
from headway.synthetic.canvas import Brush, Color, Pose, Range, Uniform, hsv, mix, shade


class SkyPalette(NamedTuple):
    """Ranges of the sky: hue, saturation and value at the top, and saturation at the horizon."""

    hue: Range
    saturation: Range
    value: Range
    horizon_saturation: Range


class GroundPalette(NamedTuple):
    """Ranges of the ground: hue, saturation and value."""

    hue: Range
    saturation: Range
    value: Range


DAY = SkyPalette((0.53, 0.62), (0.25, 0.55), (0.85, 1.0), (0.03, 0.18))
SUNSET = SkyPalette((0.03, 0.12), (0.3, 0.55), (0.85, 0.95), (0.05, 0.35))
OVERCAST = SkyPalette((0.5, 0.7), (0.02, 0.1), (0.72, 0.9), (0.0, 0.06))
DUSK = SkyPalette((0.66, 0.84), (0.25, 0.45), (0.62, 0.8), (0.1, 0.3))
SKIES = (DAY, DAY, DAY, SUNSET, OVERCAST, DUSK)
MEADOW = GroundPalette((0.19, 0.36), (0.3, 0.6), (0.5, 0.75))
EARTH = GroundPalette((0.06, 0.11), (0.25, 0.5), (0.42, 0.66))
SAND = GroundPalette((0.1, 0.14), (0.25, 0.45), (0.68, 0.82))
SNOW = GroundPalette((0.52, 0.62), (0.02, 0.08), (0.84, 0.92))
GROUNDS = (MEADOW, MEADOW, MEADOW, EARTH, SAND, SNOW)


def draw_background(side: int, sun: float, uniform: Uniform) -> tuple[Image.Image, float, Color]:
    """Draw sky, hills, ground and props.

    Args:
        side: Side of the square canvas in pixels.
        sun: Position of the sun: -1 left to 1 right.
        uniform: Draws a number from a range.

    Returns:
        The image, the y of the horizon as a fraction of the side, and the color of the ground.
    """
    horizon = uniform(0.26, 0.62)
    sky_palette, ground_palette = SKIES[int(uniform(0, len(SKIES)))], GROUNDS[int(uniform(0, len(GROUNDS)))]
    hue = uniform(*sky_palette.hue)
    zenith = hsv(hue, uniform(*sky_palette.saturation), uniform(*sky_palette.value))
    low = hsv(hue + uniform(-0.03, 0.03), uniform(*sky_palette.horizon_saturation), 1.0)
    ground = hsv(uniform(*ground_palette.hue), uniform(*ground_palette.saturation), uniform(*ground_palette.value))
    rows = np.arange(side, dtype=np.float32)[:, None] / side  # side 1
    sky = zenith + (np.array(low) - zenith) * np.minimum(rows / horizon, 1)  # side 3
    soil = np.array(ground) * (0.8 + 0.35 * (rows - horizon) / (1 - horizon))  # side 3
    column = np.where(rows < horizon, sky, soil).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(np.repeat(column[:, None], side, 1))
    brush = Brush(image, uniform)
    _draw_sky(brush, horizon, sun)
    for i in range(int(uniform(0, 3.5))):
        _draw_hills(brush, horizon, mix(low, shade(ground, 0.8), 0.25 + 0.22 * i))
    for _ in range(int(uniform(3, 14))):  # tufts and patches
        x, y = brush.pixels(0, 1), brush.pixels(horizon + 0.03, 1)
        width = brush.pixels(0.02, 0.16) * (y / side - horizon + 0.1)
        brush.ellipse([x - 2 * width, y - width / 3, x + 2 * width, y + width / 3], ground, uniform(0.7, 1.2))
    for foot in sorted(uniform(horizon, horizon + 0.2) for _ in range(int(uniform(0, 6)))):
        props.BACKGROUND_PROPS[int(uniform(0, len(props.BACKGROUND_PROPS)))](brush, foot * side)
    return image, horizon, ground


def draw_shadow(brush: Brush, pose: Pose, feet: float, sun: float, ground: Color) -> None:
    """Draw the animal's shadow on the ground, away from the sun: dark inside, lighter at its edge."""
    x = pose.x - 0.2 * sun * pose.scale
    for size, dark in ((1.0, 0.78), (0.8, 0.6)):
        width, height = 0.85 * size * pose.scale, 0.11 * size * pose.scale
        brush.ellipse([x - width, feet - height, x + width, feet + height], ground, dark)


def draw_foreground(brush: Brush, ground: Color) -> None:
    """Draw what is in front of the animal: grass, flowers, stones, a bush, a thin trunk or a fence."""
    uniform = brush.uniform
    for _ in range(int(uniform(0, 26))):
        props.blade(brush, uniform(0, 1), uniform(0.05, 0.2), ground)
    choice, x = uniform(0, 6), uniform(0.04, 0.96)
    if choice < 1:
        for _ in range(12):  # tall grass, a tuft
            props.blade(brush, x + uniform(-0.09, 0.09), uniform(0.2, 0.5), ground)
    elif choice < 2:
        props.bush(brush, brush.pixels(1.0, 1.06))
    elif choice < 3:
        props.trunk(brush, x * brush.side)
    elif choice < 4:
        props.fence(brush)
    elif choice < 5:
        for _ in range(int(uniform(2, 6))):
            props.flower(brush)
    for _ in range(int(uniform(0, 3))):
        props.stone(brush, brush.pixels(0.98, 1.02))


def _draw_sky(brush: Brush, horizon: float, sun: float) -> None:
    if brush.uniform(0, 1) < 0.45:
        x, y, radius = (0.5 + 0.45 * sun) * brush.side, brush.pixels(0.05, horizon - 0.08), brush.pixels(0.03, 0.07)
        brush.circle(x, y, radius, hsv(0.13, brush.uniform(0, 0.5), 1.0))
    for _ in range(int(brush.uniform(0, 4))):
        x, y, width = brush.pixels(0, 1), brush.pixels(0.03, horizon - 0.08), brush.pixels(0.05, 0.12)
        white = hsv(0.6, 0.03, brush.uniform(0.85, 1.0))
        for shift, size in ((-0.9, 0.35), (-0.2, 0.55), (0.6, 0.4)):
            center, half = x + shift * width, size * width
            brush.ellipse([center - 1.4 * half, y - half, center + 1.4 * half, y + half * 0.7], white)


def _draw_hills(brush: Brush, horizon: float, color: Color) -> None:
    x, uniform, side = np.linspace(0, 1, 24), brush.uniform, brush.side
    pointed, height, phase, waves = uniform(0, 1) < 0.4, uniform(0.03, 0.2), uniform(0, 6.3), uniform(0.8, 2.5)
    wave = np.sin(2 * math.pi * waves * x + phase)
    rise = np.abs(wave) if pointed else (1 + wave) / 2
    ridge = np.stack([x, horizon - height * rise], 1) * side  # 24 2
    corners = [side, horizon * side + 1, 0, horizon * side + 1]
    brush.polygon(ridge.ravel().tolist() + corners, color)
