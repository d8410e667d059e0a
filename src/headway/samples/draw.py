"""One picture of one animal: everything about it is a function of (seed, index)."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from headway.draws import hashed
from headway.samples import animals, creatures
from headway.samples.canvas import Coat, Pen, Place, hsv
from headway.samples.scenery import Chance, backdrop, foreground

DRAW: dict[str, Callable[[Pen, Chance], None]] = {
    "bird": animals.bird, "butterfly": creatures.butterfly, "cat": animals.cat, "elephant": animals.elephant,
    "fish": animals.fish, "frog": creatures.frog, "giraffe": animals.giraffe, "rabbit": animals.rabbit,
    "snail": creatures.snail, "snake": creatures.snake, "spider": creatures.spider, "turtle": creatures.turtle,
}  # fmt: skip
KINDS = tuple(DRAW)
"""The kinds of animal, in the order of their labels."""
VERSION = 1
"""Raised whenever the same (seed, index) gives other pixels; it belongs beside every result on drawn pictures."""


def kind_of(seed: int, index: int) -> int:
    """Which of ``KINDS`` a picture shows: shuffled in blocks, so that each block holds every kind once."""
    block, place = divmod(index, len(KINDS))
    return sorted(range(len(KINDS)), key=lambda kind: hashed("kind", seed, block, kind))[place]


def draw(seed: int, index: int, side: int = 64) -> np.ndarray:
    """Draw a picture: side side 3, uint8.

    Kind and everything else are independent: pose, place, size, coat and its pattern, light, scenery and what stands
    before the animal. It is drawn at twice the side and reduced.

    Args:
        seed: Of the collection.
        index: Of the picture, from 0.
        side: In pixels, 32 to 256.

    Raises:
        ValueError: For a side out of range or an index below 0.
    """
    if not 32 <= side <= 256 or index < 0:
        raise ValueError(f"side must lie in 32..256 and index be 0 or more, got {side} and {index}")
    random = np.random.RandomState(hashed("animal", seed, index) % 2**32)  # its stream is frozen for good
    numbers = iter(random.random_sample(1024).tolist())

    def chance(low: float, high: float) -> float:
        return low + (high - low) * next(numbers)

    large = 2 * side
    picture, horizon, ground = backdrop(large, chance)
    scale = chance(0.31, 0.44) * large
    feet = chance(max(horizon + 0.08, 0.74), 0.95) * large
    place = Place(
        large, chance(0.4, 0.6) * large, feet - 0.84 * scale, scale, math.radians(chance(-10, 10)), chance(0, 1) < 0.5
    )
    shadow = [place.x - 0.75 * scale, feet - 0.09 * scale, place.x + 0.75 * scale, feet + 0.09 * scale]
    ImageDraw.Draw(picture).ellipse(shadow, fill=tuple(round(0.55 * channel) for channel in ground))
    pen = Pen(place, _coat(chance))
    DRAW[KINDS[kind_of(seed, index)]](pen, chance)
    canvas = _dress(np.asarray(picture), pen, chance)  # large large 3
    picture = Image.fromarray(canvas)
    foreground(ImageDraw.Draw(picture), large, ground, chance)
    return _light(np.asarray(picture.reduce(2)), random, chance)


def _coat(chance: Chance) -> Coat:
    hue, value = chance(0, 1), chance(0.3, 0.98)
    base = hsv(hue, chance(0.05, 0.75), value)
    mark = hsv(hue + chance(-0.12, 0.12), chance(0.1, 0.7), value - 0.38 if value > 0.6 else value + 0.4)
    accent = hsv(hue + chance(0.25, 0.75), chance(0.35, 0.8), chance(0.55, 0.95))
    return Coat(base, mark, accent, hsv(chance(0, 1), 0.3, chance(0.08, 0.18)), hsv(hue, chance(0.02, 0.15), 0.95))


def _dress(scene: np.ndarray, pen: Pen, chance: Chance) -> np.ndarray:
    """Put coat, pattern, shading and outline on the animal, and the animal on the scene: S S 3, uint8."""
    material = np.asarray(pen.map)  # S S
    there = material > 0
    plain, marked = pen.palettes()
    dressed = np.where(_pattern(pen.place, chance)[..., None], marked[material], plain[material])  # S S 3
    height = np.arange(len(material), dtype=np.float32)[:, None, None]
    dressed = dressed * np.clip(1.0 - 0.22 * (height - pen.place.y) / pen.place.scale, 0.75, 1.2)
    near = there.copy()
    near[1:] |= there[:-1]
    near[:-1] |= there[1:]
    near[:, 1:] |= there[:, :-1]
    near[:, :-1] |= there[:, 1:]
    outlined = np.where(near[..., None], 0.35 * plain[1:].mean(0), scene)
    return np.where(there[..., None], dressed, outlined).clip(0, 255).astype(np.uint8)


def _pattern(place: Place, chance: Chance) -> np.ndarray:
    """Where the coat is marked, S S bool: nowhere, in stripes or in spots."""
    choice, angle, rate, wobble = chance(0, 3), chance(0, math.pi), chance(9, 16), chance(0, 0.5)
    if choice < 1:
        return np.zeros((place.side, place.side), dtype=bool)
    axis = (np.arange(place.side, dtype=np.float32) - place.side / 2) / place.scale
    x, y = axis[None, :], axis[:, None]
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    if choice < 2:
        return np.sin(rate * u + wobble * np.sin(5 * v)) > 0.35
    return np.sin(rate * u) * np.sin(rate * v) > 0.4


def _light(picture: np.ndarray, random: np.random.RandomState, chance: Chance) -> np.ndarray:
    """Brightness, contrast, a tint, light from one side and a little noise: side side 3, uint8."""
    side = len(picture)
    slope = np.linspace(-1, 1, side, dtype=np.float32)
    sideways, downwards = chance(-0.15, 0.15), chance(-0.1, 0.1)
    light = 1 + sideways * slope[None, :, None] + downwards * slope[:, None, None]  # side side 1
    gain = chance(0.75, 1.12) * np.array([chance(0.93, 1.07) for _ in range(3)], dtype=np.float32)
    grain = random.randint(-6, 7, (side, side, 1))
    contrast = chance(0.75, 1.1)
    lit = ((picture - 128.0) * contrast + 128.0) * light * gain + grain
    return lit.clip(0, 255).astype(np.uint8)
