"""Where the animals stand: sky above, ground below, always this way up; hills, trees, clouds, grass and stones.

Scenery is drawn without regard to the animal, so that it gives nothing away.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from headway.samples.canvas import Colour, hsv, shade

Chance = Callable[[float, float], float]


def backdrop(side: int, chance: Chance) -> tuple[Image.Image, float, Colour]:
    """Sky, hills and ground.

    Args:
        side: Of the square canvas in pixels.
        chance: Gives a number in a range.

    Returns:
        The picture, the height of the horizon as a share of the side from the top, and the colour of the ground.
    """
    horizon = chance(0.35, 0.62)
    hue = chance(0.53, 0.62) if chance(0, 1) < 0.8 else chance(0.03, 0.12)  # by day, or with the sun low
    high, low = hsv(hue, chance(0.25, 0.5), chance(0.8, 0.95)), hsv(hue + chance(-0.03, 0.03), chance(0.05, 0.2), 1.0)
    ground = hsv(chance(0.19, 0.35) if chance(0, 1) < 0.75 else chance(0.07, 0.12), chance(0.3, 0.5), chance(0.5, 0.7))
    rows = np.arange(side, dtype=np.float32)[:, None] / side  # side 1
    sky = high + (np.array(low) - high) * np.minimum(rows / horizon, 1)  # side 3
    land = np.array(ground) * (0.75 + 0.45 * (rows - horizon) / (1 - horizon))  # side 3
    column = np.where(rows < horizon, sky, land).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(np.repeat(column[:, None], side, 1))
    draw = ImageDraw.Draw(picture)
    _heavens(draw, side, horizon, chance)
    for i in range(int(chance(0, 2.5))):
        _hills(draw, side, horizon, shade(hsv(hue + chance(-0.08, 0.08), 0.25, 0.75), 0.95 - 0.15 * i), chance)
    draw.rectangle([0, horizon * side, side, horizon * side + 2], fill=_whole(shade(ground, 0.7)))
    for _ in range(int(chance(0, 3))):
        _tree(draw, side, horizon, chance)
    for _ in range(int(chance(4, 16))):  # tufts and patches
        x, y = chance(0, 1) * side, chance(horizon + 0.03, 1) * side
        wide = chance(0.01, 0.1) * side
        draw.ellipse([x - wide, y - wide / 4, x + wide, y + wide / 4], fill=_whole(shade(ground, chance(0.6, 1.25))))
    return picture, horizon, ground


def foreground(draw: ImageDraw.ImageDraw, side: int, ground: Colour, chance: Chance) -> None:
    """Grass and stones before the animal, along the lower edge."""
    for _ in range(int(chance(0, 30))):
        x, tall, lean = chance(0, 1) * side, chance(0.05, 0.2) * side, chance(-0.05, 0.05) * side
        foot = chance(0.93, 1.05) * side
        blade = [x - 0.012 * side, foot, x + 0.012 * side, foot, x + lean, foot - tall]
        draw.polygon(blade, fill=_whole(shade(ground, chance(0.55, 1.35))))
    for _ in range(int(chance(0, 3))):
        x, wide = chance(0, 1) * side, chance(0.05, 0.13) * side
        grey = hsv(chance(0, 1), 0.1, chance(0.35, 0.75))
        draw.ellipse([x - wide, 0.98 * side - wide, x + wide, 0.98 * side + wide], fill=_whole(grey))
        draw.ellipse(
            [x - 0.7 * wide, 0.98 * side - 0.9 * wide, x + 0.4 * wide, 0.98 * side], fill=_whole(shade(grey, 1.2))
        )


def _heavens(draw: ImageDraw.ImageDraw, side: int, horizon: float, chance: Chance) -> None:
    if chance(0, 1) < 0.4:
        x, y, radius = chance(0.05, 0.95) * side, chance(0.05, horizon - 0.1) * side, chance(0.03, 0.08) * side
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=_whole(hsv(0.13, chance(0, 0.5), 1.0)))
    for _ in range(int(chance(0, 4))):
        x, y, wide = chance(0, 1) * side, chance(0.03, horizon - 0.08) * side, chance(0.05, 0.12) * side
        white = _whole(hsv(0.6, 0.03, chance(0.85, 1.0)))
        for shift, size in ((-0.9, 0.35), (-0.2, 0.55), (0.6, 0.4)):
            centre, half = x + shift * wide, size * wide
            draw.ellipse([centre - 1.4 * half, y - half, centre + 1.4 * half, y + half * 0.7], fill=white)


def _hills(draw: ImageDraw.ImageDraw, side: int, horizon: float, colour: Colour, chance: Chance) -> None:
    x = np.linspace(0, 1, 24)
    sharp, height, phase, waves = chance(0, 1) < 0.4, chance(0.04, 0.22), chance(0, 6.3), chance(0.8, 2.5)
    wave = np.sin(2 * math.pi * waves * x + phase)
    rise = np.abs(wave) if sharp else (1 + wave) / 2
    ridge = np.stack([x, horizon - height * rise], 1) * side  # 24 2
    corners = [side, horizon * side + 1, 0, horizon * side + 1]
    draw.polygon(ridge.ravel().tolist() + corners, fill=_whole(colour))


def _tree(draw: ImageDraw.ImageDraw, side: int, horizon: float, chance: Chance) -> None:
    x, foot, tall = chance(0, 1) * side, chance(horizon, horizon + 0.12) * side, chance(0.15, 0.45) * side
    wide, leaf = tall * chance(0.2, 0.34), _whole(hsv(chance(0.08, 0.42), chance(0.25, 0.7), chance(0.3, 0.7)))
    trunk = _whole(hsv(0.08, 0.4, chance(0.25, 0.5)))
    draw.rectangle([x - 0.05 * tall, foot - 0.5 * tall, x + 0.05 * tall, foot], fill=trunk)
    if chance(0, 1) < 0.5:
        for rise in (0.2, 0.45, 0.65):
            half = wide * (1.2 - rise)
            draw.polygon(
                [x - half, foot - rise * tall, x + half, foot - rise * tall, x, foot - (rise + 0.4) * tall], fill=leaf
            )
    else:
        draw.ellipse([x - wide, foot - tall, x + wide, foot - 0.35 * tall], fill=leaf)


def _whole(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (round(min(max(channel, 0), 255)) for channel in colour)
    return red, green, blue
