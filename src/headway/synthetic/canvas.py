"""A pen that draws one animal: shapes in the animal's coordinates, each of a material.

The animal faces right, x and y run from -1 to 1 and y points up. The result is a map of material indices. Coats,
patterns and light are applied later, once for the whole animal.
"""

import colorsys
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

Color = tuple[float, ...]
"""Red, green, blue in 0..255."""
Range = tuple[float, float]
Points = list[tuple[float, float]]
Uniform = Callable[[float, float], float]
"""Draws a number from a range, as ``numpy.random.Generator.uniform`` does."""


def hsv(hue: float, saturation: float, value: float) -> Color:
    """A color from hue, saturation and value, each in [0, 1]; the hue wraps."""
    rgb = colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))
    return tuple(255 * channel for channel in rgb)


def shade(color: Color, factor: float) -> Color:
    """The color, darker (factor < 1) or lighter."""
    return tuple(min(255.0, channel * factor) for channel in color)


def mix(first: Color, second: Color, share: float) -> Color:
    """Linear interpolation of two colors: the first at share 0, the second at 1."""
    return tuple(a + share * (b - a) for a, b in zip(first, second, strict=True))


def to_uint8(color: Color) -> tuple[int, ...]:
    """The color rounded to integers in 0..255."""
    return tuple(round(min(max(channel, 0), 255)) for channel in color)


def smooth_curve(points: Points, steps: int = 6) -> np.ndarray:
    """A smooth curve through the points, (P - 1) x steps + 1 of them (Catmull and Rom 1974)."""
    p = np.array([points[0], *points, points[-1]], dtype=float)  # P+2 2
    windows = np.stack([p[:-3], p[1:-2], p[2:-1], p[3:]], 1)  # P-1 4 2
    return np.concatenate([(_spline_weights(steps) @ windows).reshape(-1, 2), p[-1:]])


@cache
def _spline_weights(steps: int) -> np.ndarray:
    """Weights of four consecutive points between the second and the third: steps 4."""
    u = np.arange(steps) / steps
    return 0.5 * np.stack([2 * u**2 - u**3 - u, 2 - 5 * u**2 + 3 * u**3, u + 4 * u**2 - 3 * u**3, u**3 - u**2], 1)


class Brush:
    """Draws scenery on a square image, of ``side`` pixels, with random numbers from ``uniform``."""

    def __init__(self, image: Image.Image, uniform: Uniform):
        self.draw, self.side, self.uniform = ImageDraw.Draw(image), image.width, uniform

    def pixels(self, low: float, high: float) -> float:
        """A random length or position in pixels, from a range in fractions of the side."""
        return self.uniform(low, high) * self.side

    def color(self, hue: Range, saturation: Range, value: Range) -> Color:
        """A random color from ranges of hue, saturation and value."""
        return hsv(self.uniform(*hue), self.uniform(*saturation), self.uniform(*value))

    def polygon(self, points: Sequence[float] | Points, color: Color, tone: float = 1.0) -> None:
        """Fill a polygon, in pixels; ``tone`` is a factor on the brightness of the color."""
        self.draw.polygon(points, fill=to_uint8(shade(color, tone)))

    def rectangle(self, box: list[float], color: Color, tone: float = 1.0) -> None:
        """Fill a rectangle: left, top, right, bottom."""
        self.draw.rectangle(box, fill=to_uint8(shade(color, tone)))

    def ellipse(self, box: list[float], color: Color, tone: float = 1.0) -> None:
        """Fill an ellipse within a box: left, top, right, bottom."""
        self.draw.ellipse(box, fill=to_uint8(shade(color, tone)))

    def circle(self, x: float, y: float, radius: float, color: Color, tone: float = 1.0) -> None:
        """Fill a circle about (x, y)."""
        self.ellipse([x - radius, y - radius, x + radius, y + radius], color, tone)


class Pose(NamedTuple):
    """Position and shape of the animal on a square canvas, in pixels and radians; ``mirrored`` faces left.

    ``stretch`` is the factor on width / height, ``shear`` the shift forward per unit of height.
    """

    side: int
    x: float
    y: float
    scale: float
    tilt: float
    mirrored: bool
    stretch: float = 1.0
    shear: float = 0.0


class Coat(NamedTuple):
    """Colors of an animal; they are independent of the class.

    Attributes:
        base: Color of body and limbs.
        mark: Color of stripes or spots on the base.
        accent: Color of beaks, shells, tongues and inner ears.
        dark: Color of eyes and lines.
        light: Color of bellies, teeth and the whites of eyes.
    """

    base: Color
    mark: Color
    accent: Color
    dark: Color
    light: Color


class Pen:
    """Draws shapes of a material ("base", "accent", "dark", "light"), each with a tone, a factor on its brightness."""

    def __init__(self, pose: Pose, coat: Coat):
        self.pose, self.coat = pose, coat
        self.material_map = Image.new("L", (pose.side, pose.side))
        self._draw = ImageDraw.Draw(self.material_map)
        self._materials: dict[tuple[str, float], int] = {}
        cos, sin = pose.scale * math.cos(pose.tilt), pose.scale * math.sin(pose.tilt)
        flip = -1.0 if pose.mirrored else 1.0
        shape = np.array([[math.sqrt(pose.stretch), 0.0], [pose.shear, 1 / math.sqrt(pose.stretch)]])
        self._to_pixels = shape @ np.array([[flip * cos, -sin], [-flip * sin, -cos]])  # y of pixels points down

    def polygon(self, points: Points | np.ndarray, material: str = "base", tone: float = 1.0) -> None:
        """Fill a polygon."""
        pixels = np.asarray(points, dtype=float) @ self._to_pixels + (self.pose.x, self.pose.y)  # P 2
        index = self._materials.setdefault((material, tone), len(self._materials) + 1)
        self._draw.polygon(pixels.ravel().tolist(), fill=index)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, material: str = "base", tone: float = 1.0, rotation: float = 0.0
    ) -> None:
        """Fill an ellipse about (x, y); ``rotation`` in degrees, counterclockwise for an animal that faces right."""
        points = CIRCLE * (rx, ry)  # 28 2
        if rotation:
            cos, sin = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
            points = points @ np.array([[cos, sin], [-sin, cos]])
        self.polygon(points + np.array([x, y]), material, tone)

    def limb(
        self,
        points: Points,
        start_radius: float,
        end_radius: float | None = None,
        material: str = "base",
        tone: float = 1.0,
    ) -> None:
        """Draw a curved limb with round ends through the points; half its width changes linearly between the radii."""
        center = smooth_curve(points)  # P 2
        end_radius = start_radius if end_radius is None else end_radius
        radius = start_radius + (end_radius - start_radius) * np.arange(len(center)) / (len(center) - 1)  # P
        tangent = np.gradient(center, axis=0)  # P 2
        length = np.maximum(np.hypot(tangent[:, 0], tangent[:, 1]), 1e-6)  # P
        normal = tangent[:, ::-1] * LEFT_NORMAL * (radius / length)[:, None]  # P 2
        self.polygon(np.concatenate([center + normal, (center - normal)[::-1]]), material, tone)
        self.ellipse(center[0, 0], center[0, 1], start_radius, start_radius, material, tone)
        self.ellipse(center[-1, 0], center[-1, 1], end_radius, end_radius, material, tone)

    def eye(self, x: float, y: float, radius: float) -> None:
        """A white with a pupil and a glint."""
        self.ellipse(x, y, radius, radius, "light", 1.1)
        self.ellipse(x + 0.2 * radius, y, 0.65 * radius, 0.7 * radius, "dark")
        self.ellipse(x + 0.4 * radius, y + 0.3 * radius, 0.22 * radius, 0.22 * radius, "light", 1.2)

    def palettes(self) -> tuple[np.ndarray, np.ndarray]:
        """Colors by material index, without and with the coat's marks: M+1 3 each, float32; index 0 is background."""
        plain: list[Color] = [(0.0, 0.0, 0.0)]
        marked = plain.copy()
        for material, tone in self._materials:
            plain.append(shade(getattr(self.coat, material), tone))
            marked.append(shade(self.coat.mark, tone) if material == "base" else plain[-1])
        return np.array(plain, dtype=np.float32), np.array(marked, dtype=np.float32)


_angles = np.linspace(0, 2 * math.pi, 28, endpoint=False)
CIRCLE = np.stack([np.cos(_angles), np.sin(_angles)], 1)  # 28 2
LEFT_NORMAL = np.array([-1.0, 1.0])
"""Maps (y, x) to (-y, x), a rotation by 90 degrees to the left."""
