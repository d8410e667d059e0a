"""A line chart with intervals, as a PNG, drawn with Pillow."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from headway.reports.image_grid import BACKGROUND, FOREGROUND, MUTED, png_bytes

GRID_COLOR = (228, 226, 220)
LINE_COLORS = ((0, 114, 178), (213, 94, 0), (110, 112, 118), (0, 158, 115), (204, 121, 167))
"""Colors of the lines, in order, distinguishable with color blindness (Okabe and Ito, https://jfly.uni-koeln.de/color/)."""
WIDTH, HEIGHT = 880, 540
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 84, 84
"""Margins of the plot in pixels: tick labels, names of lines, title, and tick labels with the note."""
SUPERSAMPLING = 3
"""The chart is drawn larger by this factor and then reduced, for smooth lines."""


class Line(NamedTuple):
    """One line: its name, and for each x the value with the ends of its interval."""

    name: str
    xs: Sequence[float]
    values: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]


class ChartText(NamedTuple):
    """Text around the plot."""

    title: str
    x_label: str
    y_label: str
    note: str


def draw_chart(labels: ChartText, lines: Sequence[Line], ticks: Sequence[tuple[float, str]]) -> bytes:
    """Draw lines over a logarithmic x axis: the bytes of a PNG.

    Args:
        labels: Title, names of the axes, and a note below.
        lines: The first is drawn last, on top.
        ticks: Values on the x axis, all above 0, and their labels.
    """
    axes = _Axes(lines, [x for x, _ in ticks])
    image = Image.new("RGB", (WIDTH * SUPERSAMPLING, HEIGHT * SUPERSAMPLING), BACKGROUND)
    pen = ImageDraw.Draw(image, "RGBA")
    for value in axes.y_ticks:
        y = axes.y(value)
        pen.line([(LEFT * SUPERSAMPLING, y), ((WIDTH - RIGHT) * SUPERSAMPLING, y)], GRID_COLOR, SUPERSAMPLING)
        _draw_text(pen, (LEFT - 10) * SUPERSAMPLING, y, f"{value:g}", 13, MUTED, "rm")
    for x, text in ticks:
        _draw_text(pen, axes.x(x), (HEIGHT - BOTTOM + 10) * SUPERSAMPLING, text, 13, MUTED, "ma")
    for number in reversed(range(len(lines))):
        _draw_line(pen, axes, lines[number], LINE_COLORS[number % len(LINE_COLORS)])
    ends = _separate_labels([axes.y(line.values[-1]) for line in lines], 20 * SUPERSAMPLING)
    for number, (line, y) in enumerate(zip(lines, ends, strict=True)):
        _draw_text(
            pen, (WIDTH - RIGHT + 14) * SUPERSAMPLING, y, line.name, 14, LINE_COLORS[number % len(LINE_COLORS)], "lm"
        )
    middle = (LEFT + WIDTH - RIGHT) / 2 * SUPERSAMPLING
    _draw_text(pen, 24 * SUPERSAMPLING, 20 * SUPERSAMPLING, labels.title, 20, FOREGROUND, "la")
    _draw_text(pen, 24 * SUPERSAMPLING, 52 * SUPERSAMPLING, labels.y_label, 13, MUTED, "la")
    _draw_text(pen, middle, (HEIGHT - BOTTOM + 32) * SUPERSAMPLING, labels.x_label, 13, MUTED, "ma")
    _draw_text(pen, 24 * SUPERSAMPLING, (HEIGHT - 22) * SUPERSAMPLING, labels.note, 12, MUTED, "lm")
    return png_bytes(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


class _Axes:
    """Pixel coordinates of values, before the reduction."""

    def __init__(self, lines: Sequence[Line], xs: Sequence[float]):
        low, high = min(min(line.lows) for line in lines), max(max(line.highs) for line in lines)
        step = _tick_step(max(high - low, 1.0) / 5)
        first, last = math.floor(low / step), math.ceil(high / step)
        self.y_ticks = [number * step for number in range(first, max(last, first + 1) + 1)]
        self.log_min, self.log_max = math.log(min(xs)), math.log(max(xs))

    def x(self, value: float) -> float:
        """Pixel of a value on the logarithmic x axis; a single value is centered."""
        inset = 24  # distance of the first and last points from the edge
        share = (math.log(value) - self.log_min) / (self.log_max - self.log_min) if self.log_max > self.log_min else 0.5
        return SUPERSAMPLING * (LEFT + inset + share * (WIDTH - LEFT - RIGHT - 2 * inset))

    def y(self, value: float) -> float:
        """Pixel of a value on the y axis."""
        share = (value - self.y_ticks[0]) / (self.y_ticks[-1] - self.y_ticks[0])
        return SUPERSAMPLING * (HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM))


def _draw_line(pen: ImageDraw.ImageDraw, axes: _Axes, line: Line, color: tuple[int, int, int]) -> None:
    xs = [axes.x(x) for x in line.xs]
    upper = [(x, axes.y(high)) for x, high in zip(xs, line.highs, strict=True)]
    lower = [(x, axes.y(low)) for x, low in zip(xs, line.lows, strict=True)]
    points = [(x, axes.y(value)) for x, value in zip(xs, line.values, strict=True)]
    if len(xs) > 1:
        pen.polygon(upper + lower[::-1], (*color, 36))
        pen.line(points, color, 2 * SUPERSAMPLING, joint="curve")
    for (x, top), (_, bottom), (_, y) in zip(upper, lower, points, strict=True):
        pen.line([(x, top), (x, bottom)], (*color, 150), SUPERSAMPLING)
        pen.circle((x, y), 4 * SUPERSAMPLING, color, BACKGROUND, SUPERSAMPLING)


def _tick_step(minimum: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below ``minimum``."""
    power = 10.0 ** math.floor(math.log10(minimum))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= minimum * (1 - 1e-9))


def _separate_labels(positions: Sequence[float], min_gap: float) -> list[float]:
    """Positions of labels, moved so that they do not overlap."""
    moved = list(positions)
    order = sorted(range(len(moved)), key=lambda i: moved[i])
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + min_gap)
    return moved


def _draw_text(
    pen: ImageDraw.ImageDraw, x: float, y: float, text: str, size: int, color: tuple[int, int, int], anchor: str
) -> None:
    pen.text((x, y), text, color, ImageFont.load_default(size * SUPERSAMPLING), anchor)
