"""Props: trees, bushes, stones, mushrooms, grass, flowers, fences; on a canvas of ``side`` pixels."""

import math

from PIL import ImageDraw

from headway.synthetic.canvas import Color, Uniform, hsv, shade, to_uint8


def _leaf_color(uniform: Uniform) -> Color:
    return hsv(uniform(0.08, 0.42), uniform(0.25, 0.7), uniform(0.3, 0.7))


def _draw_trunk(draw: ImageDraw.ImageDraw, side: int, foot: float, uniform: Uniform) -> tuple[float, float]:
    """Draw the trunk of a tree; returns the x and the height of the tree."""
    x, height = uniform(0, 1) * side, uniform(0.15, 0.5) * side
    wood = to_uint8(hsv(0.08, 0.4, uniform(0.25, 0.5)))
    draw.rectangle([x - 0.05 * height, foot - 0.5 * height, x + 0.05 * height, foot], fill=wood)
    return x, height


def fir(draw: ImageDraw.ImageDraw, side: int, foot: float, uniform: Uniform) -> None:
    """A fir: three layers of needles."""
    x, height = _draw_trunk(draw, side, foot, uniform)
    width, leaf = height * uniform(0.2, 0.34), _leaf_color(uniform)
    for i, rise in enumerate((0.2, 0.42, 0.62)):
        half, base = width * (1.2 - rise), foot - rise * height
        draw.polygon(
            [x - half, base, x + half, base, x, base - 0.4 * height], fill=to_uint8(shade(leaf, 0.85 + 0.12 * i))
        )


def oak(draw: ImageDraw.ImageDraw, side: int, foot: float, uniform: Uniform) -> None:
    """A tree with a round crown."""
    x, height = _draw_trunk(draw, side, foot, uniform)
    width, leaf = height * uniform(0.24, 0.38), _leaf_color(uniform)
    draw.ellipse([x - width, foot - height, x + width, foot - 0.35 * height], fill=to_uint8(shade(leaf, 0.85)))
    draw.ellipse([x - 0.8 * width, foot - height, x + 0.6 * width, foot - 0.5 * height], fill=to_uint8(leaf))


def bush(draw: ImageDraw.ImageDraw, side: int, foot: float, uniform: Uniform) -> None:
    """A bush of four round tufts."""
    x, width, leaf = uniform(0, 1) * side, uniform(0.05, 0.11) * side, _leaf_color(uniform)
    for shift, rise, size, tone in (
        (-1.0, 0.4, 0.7, 0.8),
        (1.0, 0.4, 0.7, 0.8),
        (0.0, 0.7, 1.0, 0.9),
        (-0.2, 1.0, 0.6, 1.05),
    ):
        center, height, half = x + shift * width, foot - rise * width, size * width
        draw.ellipse([center - half, height - half, center + half, height + half], fill=to_uint8(shade(leaf, tone)))


def stone(draw: ImageDraw.ImageDraw, side: int, foot: float, uniform: Uniform) -> None:
    """A stone, lighter above."""
    x, width, gray = uniform(0, 1) * side, uniform(0.04, 0.11) * side, hsv(uniform(0, 1), 0.1, uniform(0.35, 0.75))
    draw.ellipse([x - width, foot - width, x + width, foot + 0.3 * width], fill=to_uint8(gray))
    draw.ellipse(
        [x - 0.7 * width, foot - 0.9 * width, x + 0.4 * width, foot - 0.1 * width], fill=to_uint8(shade(gray, 1.2))
    )


def mushroom(draw: ImageDraw.ImageDraw, side: int, foot: float, uniform: Uniform) -> None:
    """A mushroom, of any color."""
    x, height, cap = (
        uniform(0, 1) * side,
        uniform(0.05, 0.12) * side,
        hsv(uniform(0, 1), uniform(0.3, 0.8), uniform(0.5, 0.9)),
    )
    draw.rectangle(
        [x - 0.15 * height, foot - 0.7 * height, x + 0.15 * height, foot], fill=to_uint8(hsv(0.1, 0.15, 0.85))
    )
    draw.pieslice(
        [x - 0.6 * height, foot - 1.1 * height, x + 0.6 * height, foot - 0.1 * height], 180, 360, fill=to_uint8(cap)
    )


def blade(draw: ImageDraw.ImageDraw, side: int, x: float, height: float, ground: Color, uniform: Uniform) -> None:
    """A blade of grass along the lower edge; x and height as fractions of the side."""
    foot, lean = uniform(0.97, 1.05), 0.35 * height * uniform(-1, 1)
    points = [(x - 0.012, foot), (x + 0.012, foot), (x + lean, foot - height)]
    draw.polygon([(px * side, py * side) for px, py in points], fill=to_uint8(shade(ground, uniform(0.55, 1.3))))


def trunk(draw: ImageDraw.ImageDraw, side: int, x: float, uniform: Uniform) -> None:
    """A thin tree in front of everything."""
    width, lean, wood = (
        uniform(0.02, 0.045) * side,
        uniform(-0.1, 0.1) * side,
        hsv(0.08, uniform(0.1, 0.45), uniform(0.25, 0.6)),
    )
    draw.polygon(
        [x - width, side, x + width, side, x + lean + 0.7 * width, 0, x + lean - 0.7 * width, 0], fill=to_uint8(wood)
    )
    draw.polygon([x - width, side, x, side, x + lean, 0, x + lean - 0.7 * width, 0], fill=to_uint8(shade(wood, 1.2)))


def fence(draw: ImageDraw.ImageDraw, side: int, uniform: Uniform) -> None:
    """A fence of pointed boards along the lower edge."""
    wood = hsv(uniform(0.05, 0.12), uniform(0.05, 0.45), uniform(0.4, 0.9))
    top, step, start = uniform(0.72, 0.86), uniform(0.2, 0.3), uniform(0, 0.2)
    for rise in (0.35, 0.7):
        y = (top + rise * (1.02 - top)) * side
        draw.rectangle([0, y, side, y + 0.022 * side], fill=to_uint8(shade(wood, 0.85)))
    for i in range(6):
        x = start + step * i
        board = [(x, 1), (x, top), (x + 0.025, top - 0.03), (x + 0.05, top), (x + 0.05, 1)]
        draw.polygon([(px * side, py * side) for px, py in board], fill=to_uint8(wood))


def flower(draw: ImageDraw.ImageDraw, side: int, uniform: Uniform) -> None:
    """A flower with five petals along the lower edge."""
    x, height, size = uniform(0, 1) * side, uniform(0.1, 0.3) * side, uniform(0.012, 0.025) * side
    top, petal = 1.02 * side - height, to_uint8(hsv(uniform(0, 1), uniform(0.2, 0.8), uniform(0.75, 1.0)))
    draw.line([x, side, x, top], fill=to_uint8(hsv(0.3, 0.5, 0.45)), width=max(round(0.01 * side), 1))
    for angle in range(0, 360, 72):
        px, py = x + 1.3 * size * math.cos(math.radians(angle)), top + 1.3 * size * math.sin(math.radians(angle))
        draw.ellipse([px - size, py - size, px + size, py + size], fill=petal)
    draw.ellipse([x - size, top - size, x + size, top + size], fill=to_uint8(hsv(0.13, 0.7, 0.95)))


BACKGROUND_PROPS = (fir, oak, bush, stone, mushroom)
"""Props on the ground behind the animal."""
