"""One picture of one animal: everything about it is a function of (seed, index)."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from headway.hashing import hashed
from headway.samples import animals, creatures
from headway.samples.canvas import Chance, Pen, Place
from headway.samples.dress import coat, dress
from headway.samples.scenery import backdrop, foreground, shadow

DRAW: dict[str, Callable[[Pen, Chance], None]] = {
    "bird": animals.bird, "butterfly": creatures.butterfly, "cat": animals.cat, "elephant": animals.elephant,
    "fish": animals.fish, "frog": creatures.frog, "giraffe": animals.giraffe, "rabbit": animals.rabbit,
    "snail": creatures.snail, "snake": creatures.snake, "spider": creatures.spider, "turtle": creatures.turtle,
}  # fmt: skip
KINDS = tuple(DRAW)
"""The kinds of animal, in the order of their labels."""
VERSION = 2
"""Raised whenever the same (seed, index) gives other pixels; it belongs beside every result on drawn pictures."""


def kind_of(seed: int, index: int) -> int:
    """Which of ``KINDS`` a picture shows: shuffled in blocks, so that each block holds every kind once."""
    block, place = divmod(index, len(KINDS))
    return sorted(range(len(KINDS)), key=lambda kind: hashed("kind", seed, block, kind))[place]


def draw(seed: int, index: int, side: int = 64) -> np.ndarray:
    """Draw a picture: side side 3, uint8.

    Kind and everything else are independent: pose, place, size, coat and its pattern, light, scenery and what stands
    before the animal. It is drawn at twice the side and reduced. Frozen: whoever changes a pixel raises ``VERSION``.

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

    large, sun = 2 * side, chance(-1, 1)
    picture, horizon, ground = backdrop(large, sun, chance)
    place, feet = _place(large, horizon, chance)
    shadow(picture, place, feet, sun, ground)
    pen = Pen(place, coat(chance))
    DRAW[KINDS[kind_of(seed, index)]](pen, chance)
    canvas = np.array(picture)  # large large 3
    dress(canvas, pen, sun, chance)
    picture = Image.fromarray(canvas)
    foreground(ImageDraw.Draw(picture), large, ground, chance)
    return _light(np.asarray(picture.reduce(2)), sun, random, chance)


def _place(side: int, horizon: float, chance: Chance) -> tuple[Place, float]:
    """Where and how large the animal is, seen a little from the side; and the height of its feet in pixels."""
    scale = chance(0.3, 0.45)
    feet = chance(max(horizon + 0.08, 1.83 * scale), 0.97)
    x = 0.5 + chance(-1, 1) * (0.52 - scale)
    stretch, lean = chance(0.88, 1.12), chance(-0.1, 0.1)
    tilt, mirrored = math.radians(chance(-10, 10)), chance(0, 1) < 0.5
    place = Place(side, x * side, (feet - 0.84 * scale) * side, scale * side, tilt, mirrored, stretch, lean)
    return place, feet * side


def _light(picture: np.ndarray, sun: float, random: np.random.RandomState, chance: Chance) -> np.ndarray:
    """Brightness, contrast, a tint, light from one side, dapples and a little noise: side side 3, uint8."""
    side = len(picture)
    slope = np.linspace(-1, 1, side, dtype=np.float32)
    light = 1 + 0.2 * sun * slope[None, :, None] + chance(-0.1, 0.1) * slope[:, None, None]  # side side 1
    if chance(0, 1) < 0.35:
        dapples = Image.fromarray(random.random_sample((5, 5)).astype(np.float32))
        strength = chance(0.1, 0.35)
        light = light * (
            1 + strength * (np.asarray(dapples.resize((side, side), Image.Resampling.BICUBIC)) - 0.5)[..., None]
        )
    gain = chance(0.8, 1.15) * np.array([chance(0.9, 1.1) for _ in range(3)], dtype=np.float32)
    grain = random.randint(-4, 5, (side, side, 1))
    contrast = chance(0.75, 1.15)
    lit = ((picture - np.float32(128)) * contrast + 128) * (light * gain) + grain
    return lit.clip(0, 255).astype(np.uint8)
