"""Where the animals stand: sky above, ground below, always this way up, and what else lives there.

Scenery is drawn without regard to the animal, so that it gives nothing away.
"""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from headway.samples import things
from headway.samples.canvas import Chance, Colour, Place, hsv, mix, shade, whole

Range = tuple[float, float]


class Hour(NamedTuple):
    """Of the sky: ranges of hue, of saturation and value high up, and of saturation low down."""

    hue: Range
    saturation: Range
    value: Range
    low: Range


class Land(NamedTuple):
    """Of the ground: ranges of hue, saturation and value."""

    hue: Range
    saturation: Range
    value: Range


DAY = Hour((0.53, 0.62), (0.25, 0.55), (0.85, 1.0), (0.03, 0.18))
SUNSET = Hour((0.03, 0.12), (0.3, 0.55), (0.85, 0.95), (0.05, 0.35))
OVERCAST = Hour((0.5, 0.7), (0.02, 0.1), (0.72, 0.9), (0.0, 0.06))
DUSK = Hour((0.66, 0.84), (0.25, 0.45), (0.62, 0.8), (0.1, 0.3))
HOURS = (DAY, DAY, DAY, SUNSET, OVERCAST, DUSK)
MEADOW = Land((0.19, 0.36), (0.3, 0.6), (0.5, 0.75))
EARTH = Land((0.06, 0.11), (0.25, 0.5), (0.42, 0.66))
SAND = Land((0.1, 0.14), (0.25, 0.45), (0.68, 0.82))
SNOW = Land((0.52, 0.62), (0.02, 0.08), (0.84, 0.92))
LANDS = (MEADOW, MEADOW, MEADOW, EARTH, SAND, SNOW)


def backdrop(side: int, sun: float, chance: Chance) -> tuple[Image.Image, float, Colour]:
    """Sky, hills, ground and what stands on it.

    Args:
        side: Of the square canvas in pixels.
        sun: Where it stands: -1 left to 1 right.
        chance: Gives a number in a range.

    Returns:
        The picture, the height of the horizon as a share of the side from the top, and the colour of the ground.
    """
    horizon = chance(0.26, 0.62)
    hour, land = HOURS[int(chance(0, len(HOURS)))], LANDS[int(chance(0, len(LANDS)))]
    hue = chance(*hour.hue)
    high, low = (
        hsv(hue, chance(*hour.saturation), chance(*hour.value)),
        hsv(hue + chance(-0.03, 0.03), chance(*hour.low), 1.0),
    )
    ground = hsv(chance(*land.hue), chance(*land.saturation), chance(*land.value))
    rows = np.arange(side, dtype=np.float32)[:, None] / side  # side 1
    sky = high + (np.array(low) - high) * np.minimum(rows / horizon, 1)  # side 3
    soil = np.array(ground) * (0.8 + 0.35 * (rows - horizon) / (1 - horizon))  # side 3
    column = np.where(rows < horizon, sky, soil).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(np.repeat(column[:, None], side, 1))
    draw = ImageDraw.Draw(picture)
    _heavens(draw, side, horizon, sun, chance)
    for i in range(int(chance(0, 3.5))):
        _hills(draw, side, horizon, mix(low, shade(ground, 0.8), 0.25 + 0.22 * i), chance)
    for _ in range(int(chance(3, 14))):  # tufts and patches
        x, y = chance(0, 1) * side, chance(horizon + 0.03, 1) * side
        wide = chance(0.02, 0.16) * side * (y / side - horizon + 0.1)
        draw.ellipse(
            [x - 2 * wide, y - wide / 3, x + 2 * wide, y + wide / 3], fill=whole(shade(ground, chance(0.7, 1.2)))
        )
    for foot in sorted(chance(horizon, horizon + 0.2) for _ in range(int(chance(0, 6)))):
        things.BESIDE[int(chance(0, len(things.BESIDE)))](draw, side, foot * side, chance)
    return picture, horizon, ground


def shadow(picture: Image.Image, place: Place, feet: float, sun: float, ground: Colour) -> None:
    """The animal's shadow on the ground, away from the sun: dark inside, lighter at its rim."""
    draw, x = ImageDraw.Draw(picture), place.x - 0.2 * sun * place.scale
    for size, dark in ((1.0, 0.78), (0.8, 0.6)):
        wide, high = 0.85 * size * place.scale, 0.11 * size * place.scale
        draw.ellipse([x - wide, feet - high, x + wide, feet + high], fill=whole(shade(ground, dark)))


def foreground(draw: ImageDraw.ImageDraw, side: int, ground: Colour, chance: Chance) -> None:
    """What stands before the animal: grass, flowers, stones, a bush, a thin trunk or a fence."""
    for _ in range(int(chance(0, 26))):
        things.blade(draw, side, chance(0, 1), chance(0.05, 0.2), ground, chance)
    choice, x = chance(0, 6), chance(0.04, 0.96)
    if choice < 1:
        for _ in range(12):  # tall grass, a tuft
            things.blade(draw, side, x + chance(-0.09, 0.09), chance(0.2, 0.5), ground, chance)
    elif choice < 2:
        things.bush(draw, side, chance(1.0, 1.06) * side, chance)
    elif choice < 3:
        things.trunk(draw, side, x * side, chance)
    elif choice < 4:
        things.fence(draw, side, chance)
    elif choice < 5:
        for _ in range(int(chance(2, 6))):
            things.flower(draw, side, chance)
    for _ in range(int(chance(0, 3))):
        things.stone(draw, side, chance(0.98, 1.02) * side, chance)


def _heavens(draw: ImageDraw.ImageDraw, side: int, horizon: float, sun: float, chance: Chance) -> None:
    if chance(0, 1) < 0.45:
        x, y, radius = (0.5 + 0.45 * sun) * side, chance(0.05, horizon - 0.08) * side, chance(0.03, 0.07) * side
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=whole(hsv(0.13, chance(0, 0.5), 1.0)))
    for _ in range(int(chance(0, 4))):
        x, y, wide = chance(0, 1) * side, chance(0.03, horizon - 0.08) * side, chance(0.05, 0.12) * side
        white = whole(hsv(0.6, 0.03, chance(0.85, 1.0)))
        for shift, size in ((-0.9, 0.35), (-0.2, 0.55), (0.6, 0.4)):
            centre, half = x + shift * wide, size * wide
            draw.ellipse([centre - 1.4 * half, y - half, centre + 1.4 * half, y + half * 0.7], fill=white)


def _hills(draw: ImageDraw.ImageDraw, side: int, horizon: float, colour: Colour, chance: Chance) -> None:
    x = np.linspace(0, 1, 24)
    sharp, height, phase, waves = chance(0, 1) < 0.4, chance(0.03, 0.2), chance(0, 6.3), chance(0.8, 2.5)
    wave = np.sin(2 * math.pi * waves * x + phase)
    rise = np.abs(wave) if sharp else (1 + wave) / 2
    ridge = np.stack([x, horizon - height * rise], 1) * side  # 24 2
    corners = [side, horizon * side + 1, 0, horizon * side + 1]
    draw.polygon(ridge.ravel().tolist() + corners, fill=whole(colour))
