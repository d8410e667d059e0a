"""A pen for one animal: shapes in the animal's own coordinates, each in a material.

The animal faces right, x and y run from -1 to 1 and y points up. What is drawn is a map of material numbers, so that
coats, patterns and light are put on afterwards, once for the whole animal.
"""

import colorsys
import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[float, float, float]
"""Red, green, blue in 0..255."""
Points = list[tuple[float, float]]
Chance = Callable[[float, float], float]
"""A fresh number in a range at each call."""


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """A colour from hue, saturation and value, each in [0, 1]; the hue wraps."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))
    return 255 * red, 255 * green, 255 * blue


def shade(colour: Colour, factor: float) -> Colour:
    """The colour, darker (factor < 1) or lighter."""
    return min(255.0, colour[0] * factor), min(255.0, colour[1] * factor), min(255.0, colour[2] * factor)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """A colour between the two: the first at share 0, the second at 1."""
    red, green, blue = (a + share * (b - a) for a, b in zip(first, second, strict=True))
    return red, green, blue


def whole(colour: Colour) -> tuple[int, int, int]:
    """The colour in whole numbers of 0..255."""
    red, green, blue = colour
    return round(min(max(red, 0), 255)), round(min(max(green, 0), 255)), round(min(max(blue, 0), 255))


def bend(points: Points, steps: int = 6) -> np.ndarray:
    """A smooth curve through the points, (P - 1) x steps + 1 of them (Catmull and Rom 1974)."""
    p = np.array([points[0], *points, points[-1]], dtype=float)  # P+2 2
    windows = np.stack([p[:-3], p[1:-2], p[2:-1], p[3:]], 1)  # P-1 4 2
    return np.concatenate([(_weights(steps) @ windows).reshape(-1, 2), p[-1:]])


@cache
def _weights(steps: int) -> np.ndarray:
    """How much each of four neighbouring points counts on the way from the second to the third: steps 4."""
    u = np.arange(steps) / steps
    return 0.5 * np.stack([2 * u**2 - u**3 - u, 2 - 5 * u**2 + 3 * u**3, u + 4 * u**2 - 3 * u**3, u**3 - u**2], 1)


class Place(NamedTuple):
    """Where the animal stands on a square canvas: pixels, radians; ``mirrored`` faces left.

    ``stretch`` is width / height as against the shape it is drawn in, and ``lean`` by how much what is high is forward.
    """

    side: int
    x: float
    y: float
    scale: float
    tilt: float
    mirrored: bool
    stretch: float = 1.0
    lean: float = 0.0


class Coat(NamedTuple):
    """Colours that an animal may wear; any kind may wear any.

    Attributes:
        base: Of body and limbs.
        mark: Of stripes or spots on the base.
        accent: Of beaks, shells, tongues and inner ears.
        dark: Of eyes and lines.
        light: Of bellies, teeth and the whites of eyes.
    """

    base: Colour
    mark: Colour
    accent: Colour
    dark: Colour
    light: Colour


class Pen:
    """Draws shapes in materials: "base", "accent", "dark", "light", each with a tone that darkens or lightens it."""

    def __init__(self, place: Place, coat: Coat):
        self.place, self.coat = place, coat
        self.map = Image.new("L", (place.side, place.side))
        self._draw = ImageDraw.Draw(self.map)
        self._materials: dict[tuple[str, float], int] = {}
        cos, sin = place.scale * math.cos(place.tilt), place.scale * math.sin(place.tilt)
        flip = -1.0 if place.mirrored else 1.0
        shape = np.array([[math.sqrt(place.stretch), 0.0], [place.lean, 1 / math.sqrt(place.stretch)]])
        self._turn = shape @ np.array([[flip * cos, -sin], [-flip * sin, -cos]])  # pixels count downwards

    def polygon(self, points: Points | np.ndarray, material: str = "base", tone: float = 1.0) -> None:
        """Fill a polygon."""
        pixels = np.asarray(points, dtype=float) @ self._turn + (self.place.x, self.place.y)  # P 2
        number = self._materials.setdefault((material, tone), len(self._materials) + 1)
        self._draw.polygon(pixels.ravel().tolist(), fill=number)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, material: str = "base", tone: float = 1.0, turn: float = 0.0
    ) -> None:
        """Fill an ellipse about (x, y); ``turn`` in degrees, anticlockwise for an animal that faces right."""
        points = CIRCLE * (rx, ry)  # 28 2
        if turn:
            cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
            points = points @ np.array([[cos, sin], [-sin, cos]])
        self.polygon(points + np.array([x, y]), material, tone)

    def limb(
        self, points: Points, thick: float, thin: float | None = None, material: str = "base", tone: float = 1.0
    ) -> None:
        """Draw a bent limb through the points with round ends, its half-width running from ``thick`` to ``thin``."""
        line = bend(points)  # P 2
        thin = thick if thin is None else thin
        half = thick + (thin - thick) * np.arange(len(line)) / (len(line) - 1)  # P
        along = np.concatenate([line[1:2] - line[:1], line[2:] - line[:-2], line[-1:] - line[-2:-1]])  # P 2
        across = (
            along[:, ::-1] * SIDEWAYS * (half / np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6))[:, None]
        )  # P 2
        self.polygon(np.concatenate([line + across, (line - across)[::-1]]), material, tone)
        self.ellipse(line[0, 0], line[0, 1], thick, thick, material, tone)
        self.ellipse(line[-1, 0], line[-1, 1], thin, thin, material, tone)

    def eye(self, x: float, y: float, radius: float) -> None:
        """A white with a pupil and a glint."""
        self.ellipse(x, y, radius, radius, "light", 1.1)
        self.ellipse(x + 0.2 * radius, y, 0.65 * radius, 0.7 * radius, "dark")
        self.ellipse(x + 0.4 * radius, y + 0.3 * radius, 0.22 * radius, 0.22 * radius, "light", 1.2)

    def palettes(self) -> tuple[np.ndarray, np.ndarray]:
        """Colours by material number, without and with the coat's marks: M+1 3 each, float32; number 0 is nothing."""
        plain, marked = [(0.0, 0.0, 0.0)], [(0.0, 0.0, 0.0)]
        for material, tone in self._materials:
            plain.append(shade(getattr(self.coat, material), tone))
            marked.append(shade(self.coat.mark, tone) if material == "base" else plain[-1])
        return np.array(plain, dtype=np.float32), np.array(marked, dtype=np.float32)


_angles = np.linspace(0, 2 * math.pi, 28, endpoint=False)
CIRCLE = np.stack([np.cos(_angles), np.sin(_angles)], 1)  # 28 2
SIDEWAYS = np.array([-1.0, 1.0])
"""Turns (y, x) into (-y, x), a quarter to the left."""
