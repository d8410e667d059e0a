"""Coat, pattern, outline and shading, applied to the whole animal after the pen has drawn its material map."""

import math

import numpy as np

from headway.synthetic.canvas import Coat, Pen, Pose, Uniform, hsv

OUTLINE_WIDTH = 1 / 128
"""Width of outlines as a fraction of the canvas."""


def random_coat(uniform: Uniform) -> Coat:
    """Matching colors, independent of the class."""
    hue, value = uniform(0, 1), uniform(0.3, 0.98)
    base = hsv(hue, uniform(0.05, 0.75), value)
    mark = hsv(hue + uniform(-0.12, 0.12), uniform(0.1, 0.7), value - 0.38 if value > 0.6 else value + 0.4)
    accent = hsv(hue + uniform(0.25, 0.75), uniform(0.35, 0.8), uniform(0.55, 0.95))
    return Coat(base, mark, accent, hsv(uniform(0, 1), 0.3, uniform(0.08, 0.18)), hsv(hue, uniform(0.02, 0.15), 0.95))


def composite_animal(scene: np.ndarray, pen: Pen, sun: float, uniform: Uniform) -> None:
    """Draw the animal onto the scene, in place.

    Args:
        scene: S S 3, uint8.
        pen: The pen that has drawn the animal.
        sun: Direction of the light: -1 left to 1 right.
        uniform: Draws a number from a range.
    """
    line = max(round(OUTLINE_WIDTH * pen.pose.side), 1)
    left, top, right, bottom = pen.material_map.getbbox() or (0, 0, 1, 1)
    rows = slice(max(top - line, 0), min(bottom + line, pen.pose.side))
    columns = slice(max(left - line, 0), min(right + line, pen.pose.side))
    material = np.asarray(pen.material_map)[rows, columns]  # H W
    inside = material > 0
    plain, marked = pen.palettes()
    palette = np.concatenate([plain, marked])  # 2(M+1) 3
    color = palette[material + len(plain) * coat_pattern(pen.pose, rows, columns, uniform)]  # H W 3

    lit = 1.0 - 0.22 * (np.arange(rows.start, rows.stop, dtype=np.float32) - pen.pose.y) / pen.pose.scale
    light = np.repeat(np.clip(lit, 0.75, 1.2)[:, None], material.shape[1], 1)  # H W
    for depth in (2, 4):  # the edge that faces the light is lighter, the opposite one darker
        x, y = round(depth * line * sun), -depth * line
        light[inside & ~_shift_mask(inside, -x, -y)] *= 1.08
        light[inside & ~_shift_mask(inside, x, y)] *= 0.92
    light[_part_edges(material, line) & inside] *= 0.72
    outline = _dilate(inside, line) & ~inside
    window = scene[rows, columns]  # H W 3
    window[outline] = (0.3 * palette[1 : len(plain)].mean(0)).astype(np.uint8)
    window[inside] = (color[inside] * light[inside][:, None]).clip(0, 255).astype(np.uint8)


def coat_pattern(pose: Pose, rows: slice, columns: slice, uniform: Uniform) -> np.ndarray:
    """Where the coat has marks, H W bool: nowhere, in stripes, spots or patches, or on the back."""
    choice, angle, frequency, wobble = uniform(0, 5), uniform(0, math.pi), uniform(9, 16), uniform(0, 0.5)
    y = (np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - pose.y) / pose.scale  # H 1
    x = (np.arange(columns.start, columns.stop, dtype=np.float32)[None] - pose.x) / pose.scale  # 1 W
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)  # H W
    if choice < 1.2:
        return np.zeros(u.shape, dtype=bool)
    if choice < 2.4:
        return np.sin(frequency * u + wobble * np.sin(5 * v)) > 0.35
    if choice < 3.6:
        return np.sin(frequency * u) * np.sin(frequency * v) > 0.4
    if choice < 4.4:
        return (
            np.sin(0.45 * frequency * u + 3 * wobble * np.sin(0.3 * frequency * v))
            * np.sin(0.4 * frequency * v + angle)
            > 0.1
        )
    return y + 0.06 * np.sin(frequency * x) < -0.1 - wobble * 0.3


def _shift_mask(mask: np.ndarray, x: int, y: int) -> np.ndarray:
    """The mask shifted x to the right and y down, filled with False."""
    height, width = mask.shape
    shifted = np.zeros_like(mask)
    shifted[max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)] = mask[
        max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)
    ]
    return shifted


def _dilate(mask: np.ndarray, pixels: int) -> np.ndarray:
    """The mask grown by so many pixels in the four directions."""
    for _ in range(pixels):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        mask = grown
    return mask


def _part_edges(material: np.ndarray, line: int) -> np.ndarray:
    """Edges between materials, H W bool."""
    edges = np.zeros(material.shape, dtype=bool)
    edges[line:] |= material[line:] != material[:-line]
    edges[:, line:] |= material[:, line:] != material[:, :-line]
    return edges
