"""Props: trees, bushes, stones, mushrooms, grass, flowers, fences; on a canvas of ``side`` pixels."""

import math

from headway.synthetic.canvas import Brush, Color, hsv, to_uint8


def _leaf_color(brush: Brush) -> Color:
    return brush.color((0.08, 0.42), (0.25, 0.7), (0.3, 0.7))


def _draw_trunk(brush: Brush, foot: float) -> tuple[float, float]:
    """Draw the trunk of a tree; returns the x and the height of the tree."""
    x, height = brush.pixels(0, 1), brush.pixels(0.15, 0.5)
    wood = hsv(0.08, 0.4, brush.uniform(0.25, 0.5))
    brush.rectangle([x - 0.05 * height, foot - 0.5 * height, x + 0.05 * height, foot], wood)
    return x, height


def fir(brush: Brush, foot: float) -> None:
    """A fir: three layers of needles."""
    x, height = _draw_trunk(brush, foot)
    width, leaf = height * brush.uniform(0.2, 0.34), _leaf_color(brush)
    for i, rise in enumerate((0.2, 0.42, 0.62)):
        half, base = width * (1.2 - rise), foot - rise * height
        brush.polygon([x - half, base, x + half, base, x, base - 0.4 * height], leaf, 0.85 + 0.12 * i)


def oak(brush: Brush, foot: float) -> None:
    """A tree with a round crown."""
    x, height = _draw_trunk(brush, foot)
    width, leaf = height * brush.uniform(0.24, 0.38), _leaf_color(brush)
    brush.ellipse([x - width, foot - height, x + width, foot - 0.35 * height], leaf, 0.85)
    brush.ellipse([x - 0.8 * width, foot - height, x + 0.6 * width, foot - 0.5 * height], leaf)


def bush(brush: Brush, foot: float) -> None:
    """A bush of four round tufts."""
    x, width, leaf = brush.pixels(0, 1), brush.pixels(0.05, 0.11), _leaf_color(brush)
    for shift, rise, size, tone in (
        (-1.0, 0.4, 0.7, 0.8),
        (1.0, 0.4, 0.7, 0.8),
        (0.0, 0.7, 1.0, 0.9),
        (-0.2, 1.0, 0.6, 1.05),
    ):
        brush.circle(x + shift * width, foot - rise * width, size * width, leaf, tone)


def stone(brush: Brush, foot: float) -> None:
    """A stone, lighter above."""
    x, width, gray = (
        brush.pixels(0, 1),
        brush.pixels(0.04, 0.11),
        hsv(brush.uniform(0, 1), 0.1, brush.uniform(0.35, 0.75)),
    )
    brush.ellipse([x - width, foot - width, x + width, foot + 0.3 * width], gray)
    brush.ellipse([x - 0.7 * width, foot - 0.9 * width, x + 0.4 * width, foot - 0.1 * width], gray, 1.2)


def mushroom(brush: Brush, foot: float) -> None:
    """A mushroom, of any color."""
    x, height, cap = brush.pixels(0, 1), brush.pixels(0.05, 0.12), brush.color((0, 1), (0.3, 0.8), (0.5, 0.9))
    brush.rectangle([x - 0.15 * height, foot - 0.7 * height, x + 0.15 * height, foot], hsv(0.1, 0.15, 0.85))
    box = [x - 0.6 * height, foot - 1.1 * height, x + 0.6 * height, foot - 0.1 * height]
    brush.draw.pieslice(box, 180, 360, fill=to_uint8(cap))


def blade(brush: Brush, x: float, height: float, ground: Color) -> None:
    """A blade of grass along the lower edge; x and height as fractions of the side."""
    foot, lean, side = brush.uniform(0.97, 1.05), 0.35 * height * brush.uniform(-1, 1), brush.side
    points = [(x - 0.012, foot), (x + 0.012, foot), (x + lean, foot - height)]
    brush.polygon([(px * side, py * side) for px, py in points], ground, brush.uniform(0.55, 1.3))


def trunk(brush: Brush, x: float) -> None:
    """A thin tree in front of everything."""
    width, lean, side = brush.pixels(0.02, 0.045), brush.pixels(-0.1, 0.1), brush.side
    wood = hsv(0.08, brush.uniform(0.1, 0.45), brush.uniform(0.25, 0.6))
    brush.polygon([x - width, side, x + width, side, x + lean + 0.7 * width, 0, x + lean - 0.7 * width, 0], wood)
    brush.polygon([x - width, side, x, side, x + lean, 0, x + lean - 0.7 * width, 0], wood, 1.2)


def fence(brush: Brush) -> None:
    """A fence of pointed boards along the lower edge."""
    wood, side = brush.color((0.05, 0.12), (0.05, 0.45), (0.4, 0.9)), brush.side
    top, step, start = brush.uniform(0.72, 0.86), brush.uniform(0.2, 0.3), brush.uniform(0, 0.2)
    for rise in (0.35, 0.7):
        y = (top + rise * (1.02 - top)) * side
        brush.rectangle([0, y, side, y + 0.022 * side], wood, 0.85)
    for i in range(6):
        x = start + step * i
        board = [(x, 1), (x, top), (x + 0.025, top - 0.03), (x + 0.05, top), (x + 0.05, 1)]
        brush.polygon([(px * side, py * side) for px, py in board], wood)


def flower(brush: Brush) -> None:
    """A flower with five petals along the lower edge."""
    x, height, size, side = brush.pixels(0, 1), brush.pixels(0.1, 0.3), brush.pixels(0.012, 0.025), brush.side
    top, petal = 1.02 * side - height, brush.color((0, 1), (0.2, 0.8), (0.75, 1.0))
    brush.draw.line([x, side, x, top], fill=to_uint8(hsv(0.3, 0.5, 0.45)), width=max(round(0.01 * side), 1))
    for angle in range(0, 360, 72):
        px, py = x + 1.3 * size * math.cos(math.radians(angle)), top + 1.3 * size * math.sin(math.radians(angle))
        brush.circle(px, py, size, petal)
    brush.circle(x, top, size, hsv(0.13, 0.7, 0.95))


BACKGROUND_PROPS = (fir, oak, bush, stone, mushroom)
"""Props on the ground behind the animal."""
