"""Draw one image of one animal; it is a function of (seed, index)."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from headway.synthetic import animals, creatures
from headway.synthetic.canvas import Brush, Pen, Pose, Uniform
from headway.synthetic.scenery import draw_background, draw_foreground, draw_shadow
from headway.synthetic.shading import composite_animal, random_coat
from headway.utils.hashing import stable_hash

DRAW_FUNCTIONS: dict[str, Callable[[Pen, Uniform], None]] = {
    "bird": animals.bird, "butterfly": creatures.butterfly, "cat": animals.cat, "elephant": animals.elephant,
    "fish": animals.fish, "frog": creatures.frog, "giraffe": animals.giraffe, "rabbit": animals.rabbit,
    "snail": creatures.snail, "snake": creatures.snake, "spider": creatures.spider, "turtle": creatures.turtle,
}  # fmt: skip
CLASSES = tuple(DRAW_FUNCTIONS)
"""Names of the animals, in the order of their labels."""
VERSION = 2
"""Incremented whenever the same (seed, index) gives other pixels; results on these images must state it."""


def class_index(seed: int, index: int) -> int:
    """Index in ``CLASSES`` of an image: shuffled in blocks, so that each block has every class once."""
    block, position = divmod(index, len(CLASSES))
    return sorted(range(len(CLASSES)), key=lambda i: stable_hash("kind", seed, block, i))[position]


def draw_animal(seed: int, index: int, side: int = 64) -> np.ndarray:
    """Draw an image: side side 3, uint8.

    The class is independent of everything else: pose, position, size, coat and its pattern, light, scenery and
    foreground. The image is drawn at twice the side and reduced. A change of any pixel must increment ``VERSION``.

    Args:
        seed: Of the collection.
        index: Index of the image, from 0.
        side: In pixels, 32 to 256.

    Raises:
        ValueError: The side is out of range or the index is negative.
    """
    if not 32 <= side <= 256 or index < 0:
        raise ValueError(f"side must lie in 32..256 and index be 0 or more, got {side} and {index}")
    random = np.random.RandomState(
        stable_hash("animal", seed, index) % 2**32
    )  # numpy guarantees this stream for all versions
    numbers = iter(random.random_sample(1024).tolist())

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * next(numbers)

    large, sun = 2 * side, uniform(-1, 1)
    image, horizon, ground = draw_background(large, sun, uniform)
    pose, feet = _random_pose(large, horizon, uniform)
    draw_shadow(Brush(image, uniform), pose, feet, sun, ground)
    pen = Pen(pose, random_coat(uniform))
    DRAW_FUNCTIONS[CLASSES[class_index(seed, index)]](pen, uniform)
    canvas = np.array(image)  # large large 3
    composite_animal(canvas, pen, sun, uniform)
    image = Image.fromarray(canvas)
    draw_foreground(Brush(image, uniform), ground)
    return _apply_lighting(np.asarray(image.reduce(2)), sun, random, uniform)


def _random_pose(side: int, horizon: float, uniform: Uniform) -> tuple[Pose, float]:
    """Position, size and shape of the animal, and the y of its feet in pixels."""
    scale = uniform(0.3, 0.45)
    feet = uniform(max(horizon + 0.08, 1.83 * scale), 0.97)
    x = 0.5 + uniform(-1, 1) * (0.52 - scale)
    stretch, shear = uniform(0.88, 1.12), uniform(-0.1, 0.1)
    tilt, mirrored = math.radians(uniform(-10, 10)), uniform(0, 1) < 0.5
    pose = Pose(side, x * side, (feet - 0.84 * scale) * side, scale * side, tilt, mirrored, stretch, shear)
    return pose, feet * side


def _apply_lighting(image: np.ndarray, sun: float, random: np.random.RandomState, uniform: Uniform) -> np.ndarray:
    """Apply brightness, contrast, a tint, light from one side, dapples and slight noise: side side 3, uint8."""
    side = len(image)
    slope = np.linspace(-1, 1, side, dtype=np.float32)
    light = 1 + 0.2 * sun * slope[None, :, None] + uniform(-0.1, 0.1) * slope[:, None, None]  # side side 1
    if uniform(0, 1) < 0.35:
        dapples = Image.fromarray(random.random_sample((5, 5)).astype(np.float32))
        strength = uniform(0.1, 0.35)
        light = light * (
            1 + strength * (np.asarray(dapples.resize((side, side), Image.Resampling.BICUBIC)) - 0.5)[..., None]
        )
    gain = uniform(0.8, 1.15) * np.array([uniform(0.9, 1.1) for _ in range(3)], dtype=np.float32)
    grain = random.randint(-4, 5, (side, side, 1))
    contrast = uniform(0.75, 1.15)
    lit = ((image - np.float32(128)) * contrast + 128) * (light * gain) + grain
    return lit.clip(0, 255).astype(np.uint8)
