"""What stands about: trees, bushes, stones, mushrooms, grass, flowers, fences; on a canvas of ``side`` pixels."""

import math

from PIL import ImageDraw

from headway.samples.canvas import Chance, Colour, hsv, shade, whole


def _leaf(chance: Chance) -> Colour:
    return hsv(chance(0.08, 0.42), chance(0.25, 0.7), chance(0.3, 0.7))


def _stem(draw: ImageDraw.ImageDraw, side: int, foot: float, chance: Chance) -> tuple[float, float]:
    """A tree's trunk; gives where it stands and how tall the tree is."""
    x, tall = chance(0, 1) * side, chance(0.15, 0.5) * side
    wood = whole(hsv(0.08, 0.4, chance(0.25, 0.5)))
    draw.rectangle([x - 0.05 * tall, foot - 0.5 * tall, x + 0.05 * tall, foot], fill=wood)
    return x, tall


def fir(draw: ImageDraw.ImageDraw, side: int, foot: float, chance: Chance) -> None:
    """A fir: three skirts of needles."""
    x, tall = _stem(draw, side, foot, chance)
    wide, leaf = tall * chance(0.2, 0.34), _leaf(chance)
    for i, rise in enumerate((0.2, 0.42, 0.62)):
        half, base = wide * (1.2 - rise), foot - rise * tall
        draw.polygon([x - half, base, x + half, base, x, base - 0.4 * tall], fill=whole(shade(leaf, 0.85 + 0.12 * i)))


def oak(draw: ImageDraw.ImageDraw, side: int, foot: float, chance: Chance) -> None:
    """A tree with a round crown."""
    x, tall = _stem(draw, side, foot, chance)
    wide, leaf = tall * chance(0.24, 0.38), _leaf(chance)
    draw.ellipse([x - wide, foot - tall, x + wide, foot - 0.35 * tall], fill=whole(shade(leaf, 0.85)))
    draw.ellipse([x - 0.8 * wide, foot - tall, x + 0.6 * wide, foot - 0.5 * tall], fill=whole(leaf))


def bush(draw: ImageDraw.ImageDraw, side: int, foot: float, chance: Chance) -> None:
    """A bush of four round tufts."""
    x, wide, leaf = chance(0, 1) * side, chance(0.05, 0.11) * side, _leaf(chance)
    for shift, rise, size, tone in (
        (-1.0, 0.4, 0.7, 0.8),
        (1.0, 0.4, 0.7, 0.8),
        (0.0, 0.7, 1.0, 0.9),
        (-0.2, 1.0, 0.6, 1.05),
    ):
        centre, height, half = x + shift * wide, foot - rise * wide, size * wide
        draw.ellipse([centre - half, height - half, centre + half, height + half], fill=whole(shade(leaf, tone)))


def stone(draw: ImageDraw.ImageDraw, side: int, foot: float, chance: Chance) -> None:
    """A stone, lighter above."""
    x, wide, grey = chance(0, 1) * side, chance(0.04, 0.11) * side, hsv(chance(0, 1), 0.1, chance(0.35, 0.75))
    draw.ellipse([x - wide, foot - wide, x + wide, foot + 0.3 * wide], fill=whole(grey))
    draw.ellipse([x - 0.7 * wide, foot - 0.9 * wide, x + 0.4 * wide, foot - 0.1 * wide], fill=whole(shade(grey, 1.2)))


def mushroom(draw: ImageDraw.ImageDraw, side: int, foot: float, chance: Chance) -> None:
    """A mushroom, of any colour."""
    x, tall, cap = chance(0, 1) * side, chance(0.05, 0.12) * side, hsv(chance(0, 1), chance(0.3, 0.8), chance(0.5, 0.9))
    draw.rectangle([x - 0.15 * tall, foot - 0.7 * tall, x + 0.15 * tall, foot], fill=whole(hsv(0.1, 0.15, 0.85)))
    draw.pieslice([x - 0.6 * tall, foot - 1.1 * tall, x + 0.6 * tall, foot - 0.1 * tall], 180, 360, fill=whole(cap))


def blade(draw: ImageDraw.ImageDraw, side: int, x: float, tall: float, ground: Colour, chance: Chance) -> None:
    """A blade of grass along the lower edge; x and height as shares of the side."""
    foot, lean = chance(0.97, 1.05), 0.35 * tall * chance(-1, 1)
    points = [(x - 0.012, foot), (x + 0.012, foot), (x + lean, foot - tall)]
    draw.polygon([(px * side, py * side) for px, py in points], fill=whole(shade(ground, chance(0.55, 1.3))))


def trunk(draw: ImageDraw.ImageDraw, side: int, x: float, chance: Chance) -> None:
    """A thin tree that stands before everything."""
    wide, lean, wood = (
        chance(0.02, 0.045) * side,
        chance(-0.1, 0.1) * side,
        hsv(0.08, chance(0.1, 0.45), chance(0.25, 0.6)),
    )
    draw.polygon([x - wide, side, x + wide, side, x + lean + 0.7 * wide, 0, x + lean - 0.7 * wide, 0], fill=whole(wood))
    draw.polygon([x - wide, side, x, side, x + lean, 0, x + lean - 0.7 * wide, 0], fill=whole(shade(wood, 1.2)))


def fence(draw: ImageDraw.ImageDraw, side: int, chance: Chance) -> None:
    """A fence of pointed boards along the lower edge."""
    wood = hsv(chance(0.05, 0.12), chance(0.05, 0.45), chance(0.4, 0.9))
    top, step, start = chance(0.72, 0.86), chance(0.2, 0.3), chance(0, 0.2)
    for rise in (0.35, 0.7):
        y = (top + rise * (1.02 - top)) * side
        draw.rectangle([0, y, side, y + 0.022 * side], fill=whole(shade(wood, 0.85)))
    for i in range(6):
        x = start + step * i
        board = [(x, 1), (x, top), (x + 0.025, top - 0.03), (x + 0.05, top), (x + 0.05, 1)]
        draw.polygon([(px * side, py * side) for px, py in board], fill=whole(wood))


def flower(draw: ImageDraw.ImageDraw, side: int, chance: Chance) -> None:
    """A flower with five petals along the lower edge."""
    x, tall, size = chance(0, 1) * side, chance(0.1, 0.3) * side, chance(0.012, 0.025) * side
    top, petal = 1.02 * side - tall, whole(hsv(chance(0, 1), chance(0.2, 0.8), chance(0.75, 1.0)))
    draw.line([x, side, x, top], fill=whole(hsv(0.3, 0.5, 0.45)), width=max(round(0.01 * side), 1))
    for angle in range(0, 360, 72):
        px, py = x + 1.3 * size * math.cos(math.radians(angle)), top + 1.3 * size * math.sin(math.radians(angle))
        draw.ellipse([px - size, py - size, px + size, py + size], fill=petal)
    draw.ellipse([x - size, top - size, x + size, top + size], fill=whole(hsv(0.13, 0.7, 0.95)))


BESIDE = (fir, oak, bush, stone, mushroom)
"""What may stand on the ground behind the animal."""


BESIDE = (fir, oak, bush, stone, mushroom)
"""What may stand on the ground behind the animal."""


def _whole(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (round(min(max(channel, 0), 255)) for channel in colour)
    return red, green, blue
