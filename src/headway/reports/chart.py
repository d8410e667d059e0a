"""A chart of lines with intervals, as a PNG, drawn with Pillow alone."""

import io
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

PAPER, INK, FAINT, GRID = (252, 251, 248), (32, 33, 36), (112, 114, 120), (228, 226, 220)
COLOURS = ((0, 114, 178), (213, 94, 0), (110, 112, 118), (0, 158, 115), (204, 121, 167))
"""Of the lines, in order: told apart by colour-blind eyes too (Okabe and Ito, https://jfly.uni-koeln.de/color/)."""
WIDTH, HEIGHT = 880, 540
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 84, 84
"""Pixels around the field: numbers, names of lines, title, numbers and note."""
FINE = 3
"""Drawn so many times as large and then shrunk, for smooth lines."""


class Line(NamedTuple):
    """One line: its name, and at each place the value with the ends of its interval."""

    name: str
    places: Sequence[float]
    values: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]


class Words(NamedTuple):
    """What stands around the field."""

    title: str
    across: str
    up: str
    note: str


def draw_chart(words: Words, lines: Sequence[Line], ticks: Sequence[tuple[float, str]]) -> bytes:
    """Draw lines over a logarithmic axis: the bytes of a PNG.

    Args:
        words: Title, names of the axes, and a note below.
        lines: Those to draw; the first is drawn last, on top.
        ticks: Places on the axis across, all above 0, and what is written there.
    """
    field = _Field(lines, [place for place, _ in ticks])
    image = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), PAPER)
    pen = ImageDraw.Draw(image, "RGBA")
    for value in field.levels:
        y = field.y(value)
        pen.line([(LEFT * FINE, y), ((WIDTH - RIGHT) * FINE, y)], GRID, FINE)
        _write(pen, (LEFT - 10) * FINE, y, f"{value:g}", 13, FAINT, "rm")
    for place, text in ticks:
        _write(pen, field.x(place), (HEIGHT - BOTTOM + 10) * FINE, text, 13, FAINT, "ma")
    for number in reversed(range(len(lines))):
        _draw_line(pen, field, lines[number], COLOURS[number % len(COLOURS)])
    ends = _spread([field.y(line.values[-1]) for line in lines], 20 * FINE)
    for number, (line, y) in enumerate(zip(lines, ends, strict=True)):
        _write(pen, (WIDTH - RIGHT + 14) * FINE, y, line.name, 14, COLOURS[number % len(COLOURS)], "lm")
    middle = (LEFT + WIDTH - RIGHT) / 2 * FINE
    _write(pen, 24 * FINE, 20 * FINE, words.title, 20, INK, "la")
    _write(pen, 24 * FINE, 52 * FINE, words.up, 13, FAINT, "la")
    _write(pen, middle, (HEIGHT - BOTTOM + 32) * FINE, words.across, 13, FAINT, "ma")
    _write(pen, 24 * FINE, (HEIGHT - 22) * FINE, words.note, 12, FAINT, "lm")
    buffer = io.BytesIO()
    image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


class _Field:
    """Where values and places stand, in fine pixels."""

    def __init__(self, lines: Sequence[Line], places: Sequence[float]):
        low, high = min(min(line.lows) for line in lines), max(max(line.highs) for line in lines)
        step = _step(max(high - low, 1.0) / 5)
        first, last = math.floor(low / step), math.ceil(high / step)
        self.levels = [number * step for number in range(first, max(last, first + 1) + 1)]
        self.left, self.right = math.log(min(places)), math.log(max(places))

    def x(self, place: float) -> float:
        """Of a place on the logarithmic axis; a single one stands in the middle."""
        inset = 24  # the first and last points keep clear of the frame
        share = (math.log(place) - self.left) / (self.right - self.left) if self.right > self.left else 0.5
        return FINE * (LEFT + inset + share * (WIDTH - LEFT - RIGHT - 2 * inset))

    def y(self, value: float) -> float:
        """Of a value, upwards."""
        share = (value - self.levels[0]) / (self.levels[-1] - self.levels[0])
        return FINE * (HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM))


def _draw_line(pen: ImageDraw.ImageDraw, field: _Field, line: Line, colour: tuple[int, int, int]) -> None:
    xs = [field.x(place) for place in line.places]
    upper = [(x, field.y(high)) for x, high in zip(xs, line.highs, strict=True)]
    lower = [(x, field.y(low)) for x, low in zip(xs, line.lows, strict=True)]
    points = [(x, field.y(value)) for x, value in zip(xs, line.values, strict=True)]
    if len(xs) > 1:
        pen.polygon(upper + lower[::-1], (*colour, 36))
        pen.line(points, colour, 2 * FINE, joint="curve")
    for (x, top), (_, bottom), (_, y) in zip(upper, lower, points, strict=True):
        pen.line([(x, top), (x, bottom)], (*colour, 150), FINE)
        r = 4 * FINE
        pen.ellipse([x - r, y - r, x + r, y + r], colour, PAPER, FINE)


def _step(wanted: float) -> float:
    """The nearest of 1, 2, 5 times a power of ten that is no smaller."""
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= wanted * (1 - 1e-9))


def _spread(places: Sequence[float], apart: float) -> list[float]:
    """Places of names, moved so that they don't overlap."""
    moved = list(places)
    order = sorted(range(len(moved)), key=lambda i: moved[i])
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + apart)
    return moved


def _write(
    pen: ImageDraw.ImageDraw, x: float, y: float, text: str, size: int, colour: tuple[int, int, int], anchor: str
) -> None:
    pen.text((x, y), text, colour, ImageFont.load_default(size * FINE), anchor)
