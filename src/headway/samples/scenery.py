"""Where the animals stand: sky above, ground below, always this way up, and what else lives there.

Scenery is drawn without regard to the animal, so that it gives nothing away.
"""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from headway.samples.canvas import Chance, Colour, Place, hsv, mix, shade

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
            [x - 2 * wide, y - wide / 3, x + 2 * wide, y + wide / 3], fill=_whole(shade(ground, chance(0.7, 1.2)))
        )
    for foot in sorted(chance(horizon, horizon + 0.2) for _ in range(int(chance(0, 6)))):
        BESIDE[int(chance(0, len(BESIDE)))](draw, side, foot * side, chance)
    return picture, horizon, ground


def shadow(picture: Image.Image, place: Place, feet: float, sun: float, ground: Colour) -> None:
    """The animal's shadow on the ground, away from the sun: dark inside, lighter at its rim."""
    draw, x = ImageDraw.Draw(picture), place.x - 0.2 * sun * place.scale
    for size, dark in ((1.0, 0.78), (0.8, 0.6)):
        wide, high = 0.85 * size * place.scale, 0.11 * size * place.scale
        draw.ellipse([x - wide, feet - high, x + wide, feet + high], fill=_whole(shade(ground, dark)))


def foreground(draw: ImageDraw.ImageDraw, side: int, ground: Colour, chance: Chance) -> None:
    """What stands before the animal: grass, flowers, stones, a bush, a thin trunk or a fence."""
    for _ in range(int(chance(0, 26))):
        _blade(draw, side, chance(0, 1), chance(0.05, 0.2), ground, chance)
    choice, x = chance(0, 6), chance(0.04, 0.96)
    if choice < 1:
        for _ in range(12):  # tall grass, a tuft
            _blade(draw, side, x + chance(-0.09, 0.09), chance(0.2, 0.5), ground, chance)
    elif choice < 2:
        _bush(draw, side, chance(1.0, 1.06) * side, chance)
    elif choice < 3:
        _trunk(draw, side, x * side, chance)
    elif choice < 4:
        _fence(draw, side, chance)
    elif choice < 5:
        for _ in range(int(chance(2, 6))):
            _flower(draw, side, chance)
    for _ in range(int(chance(0, 3))):
        _stone(draw, side, chance(0.98, 1.02) * side, chance)


def _heavens(draw: ImageDraw.ImageDraw, side: int, horizon: float, sun: float, chance: Chance) -> None:
    if chance(0, 1) < 0.45:
        x, y, radius = (0.5 + 0.45 * sun) * side, chance(0.05, horizon - 0.08) * side, chance(0.03, 0.07) * side
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=_whole(hsv(0.13, chance(0, 0.5), 1.0)))
    for _ in range(int(chance(0, 4))):
        x, y, wide = chance(0, 1) * side, chance(0.03, horizon - 0.08) * side, chance(0.05, 0.12) * side
        white = _whole(hsv(0.6, 0.03, chance(0.85, 1.0)))
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
    draw.polygon(ridge.ravel().tolist() + corners, fill=_whole(colour))


def _leaf(chance: Chance) -> Colour:
    return hsv(chance(0.08, 0.42), chance(0.25, 0.7), chance(0.3, 0.7))


def _stem(draw: ImageDraw.ImageDraw, side: int, foot: float, chance: Chance) -> tuple[float, float]:
    """A tree's trunk; gives where it stands and how tall the tree is."""
    x, tall = chance(0, 1) * side, chance(0.15, 0.5) * side
    wood = _whole(hsv(0.08, 0.4, chance(0.25, 0.5)))
    draw.rectangle([x - 0.05 * tall, foot - 0.5 * tall, x + 0.05 * tall, foot], fill=wood)
    return x, tall


def _fir(draw: ImageDraw.ImageDraw, side: int, foot: float, chance: Chance) -> None:
    x, tall = _stem(draw, side, foot, chance)
    wide, leaf = tall * chance(0.2, 0.34), _leaf(chance)
    for i, rise in enumerate((0.2, 0.42, 0.62)):
        half, base = wide * (1.2 - rise), foot - rise * tall
        draw.polygon([x - half, base, x + half, base, x, base - 0.4 * tall], fill=_whole(shade(leaf, 0.85 + 0.12 * i)))


def _oak(draw: ImageDraw.ImageDraw, side: int, foot: float, chance: Chance) -> None:
    x, tall = _stem(draw, side, foot, chance)
    wide, leaf = tall * chance(0.24, 0.38), _leaf(chance)
    draw.ellipse([x - wide, foot - tall, x + wide, foot - 0.35 * tall], fill=_whole(shade(leaf, 0.85)))
    draw.ellipse([x - 0.8 * wide, foot - tall, x + 0.6 * wide, foot - 0.5 * tall], fill=_whole(leaf))


def _bush(draw: ImageDraw.ImageDraw, side: int, foot: float, chance: Chance) -> None:
    x, wide, leaf = chance(0, 1) * side, chance(0.05, 0.11) * side, _leaf(chance)
    for shift, rise, size, tone in (
        (-1.0, 0.4, 0.7, 0.8),
        (1.0, 0.4, 0.7, 0.8),
        (0.0, 0.7, 1.0, 0.9),
        (-0.2, 1.0, 0.6, 1.05),
    ):
        centre, height, half = x + shift * wide, foot - rise * wide, size * wide
        draw.ellipse([centre - half, height - half, centre + half, height + half], fill=_whole(shade(leaf, tone)))


def _stone(draw: ImageDraw.ImageDraw, side: int, foot: float, chance: Chance) -> None:
    x, wide, grey = chance(0, 1) * side, chance(0.04, 0.11) * side, hsv(chance(0, 1), 0.1, chance(0.35, 0.75))
    draw.ellipse([x - wide, foot - wide, x + wide, foot + 0.3 * wide], fill=_whole(grey))
    draw.ellipse([x - 0.7 * wide, foot - 0.9 * wide, x + 0.4 * wide, foot - 0.1 * wide], fill=_whole(shade(grey, 1.2)))


def _mushroom(draw: ImageDraw.ImageDraw, side: int, foot: float, chance: Chance) -> None:
    """A mushroom, of any colour."""
    x, tall, cap = chance(0, 1) * side, chance(0.05, 0.12) * side, hsv(chance(0, 1), chance(0.3, 0.8), chance(0.5, 0.9))
    draw.rectangle([x - 0.15 * tall, foot - 0.7 * tall, x + 0.15 * tall, foot], fill=_whole(hsv(0.1, 0.15, 0.85)))
    draw.pieslice([x - 0.6 * tall, foot - 1.1 * tall, x + 0.6 * tall, foot - 0.1 * tall], 180, 360, fill=_whole(cap))


def _blade(draw: ImageDraw.ImageDraw, side: int, x: float, tall: float, ground: Colour, chance: Chance) -> None:
    foot, lean = chance(0.97, 1.05), 0.35 * tall * chance(-1, 1)
    points = [(x - 0.012, foot), (x + 0.012, foot), (x + lean, foot - tall)]
    draw.polygon([(px * side, py * side) for px, py in points], fill=_whole(shade(ground, chance(0.55, 1.3))))


def _trunk(draw: ImageDraw.ImageDraw, side: int, x: float, chance: Chance) -> None:
    """A thin tree that stands before everything."""
    wide, lean, wood = (
        chance(0.02, 0.045) * side,
        chance(-0.1, 0.1) * side,
        hsv(0.08, chance(0.1, 0.45), chance(0.25, 0.6)),
    )
    draw.polygon(
        [x - wide, side, x + wide, side, x + lean + 0.7 * wide, 0, x + lean - 0.7 * wide, 0], fill=_whole(wood)
    )
    draw.polygon([x - wide, side, x, side, x + lean, 0, x + lean - 0.7 * wide, 0], fill=_whole(shade(wood, 1.2)))


def _fence(draw: ImageDraw.ImageDraw, side: int, chance: Chance) -> None:
    wood, top, step, start = (
        hsv(chance(0.05, 0.12), chance(0.05, 0.45), chance(0.4, 0.9)),
        chance(0.72, 0.86),
        chance(0.2, 0.3),
        chance(0, 0.2),
    )
    for rise in (0.35, 0.7):
        y = (top + rise * (1.02 - top)) * side
        draw.rectangle([0, y, side, y + 0.022 * side], fill=_whole(shade(wood, 0.85)))
    for i in range(6):
        x = (start + step * i) * side
        draw.polygon(
            [
                x,
                side,
                x,
                top * side,
                x + 0.025 * side,
                (top - 0.03) * side,
                x + 0.05 * side,
                top * side,
                x + 0.05 * side,
                side,
            ],
            fill=_whole(wood),
        )


def _flower(draw: ImageDraw.ImageDraw, side: int, chance: Chance) -> None:
    x, tall, size = chance(0, 1) * side, chance(0.1, 0.3) * side, chance(0.012, 0.025) * side
    top, petal = 1.02 * side - tall, _whole(hsv(chance(0, 1), chance(0.2, 0.8), chance(0.75, 1.0)))
    draw.line([x, side, x, top], fill=_whole(hsv(0.3, 0.5, 0.45)), width=max(round(0.01 * side), 1))
    for angle in range(0, 360, 72):
        px, py = x + 1.3 * size * math.cos(math.radians(angle)), top + 1.3 * size * math.sin(math.radians(angle))
        draw.ellipse([px - size, py - size, px + size, py + size], fill=petal)
    draw.ellipse([x - size, top - size, x + size, top + size], fill=_whole(hsv(0.13, 0.7, 0.95)))


BESIDE = (_fir, _oak, _bush, _stone, _mushroom)
"""What may stand on the ground behind the animal."""


def _whole(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (round(min(max(channel, 0), 255)) for channel in colour)
    return red, green, blue
