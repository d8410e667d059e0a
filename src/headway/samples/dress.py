"""Coat, pattern, outline and shading: put on a whole animal at once, where the pen has drawn its map of materials."""

import math

import numpy as np

from headway.samples.canvas import Chance, Coat, Pen, Place, hsv

LINES = 1 / 128
"""Width of outlines, as a share of the canvas."""


def coat(chance: Chance) -> Coat:
    """Colours that match one another, and say nothing of the kind of animal."""
    hue, value = chance(0, 1), chance(0.3, 0.98)
    base = hsv(hue, chance(0.05, 0.75), value)
    mark = hsv(hue + chance(-0.12, 0.12), chance(0.1, 0.7), value - 0.38 if value > 0.6 else value + 0.4)
    accent = hsv(hue + chance(0.25, 0.75), chance(0.35, 0.8), chance(0.55, 0.95))
    return Coat(base, mark, accent, hsv(chance(0, 1), 0.3, chance(0.08, 0.18)), hsv(hue, chance(0.02, 0.15), 0.95))


def dress(scene: np.ndarray, pen: Pen, sun: float, chance: Chance) -> None:
    """Put the animal on the scene, in place.

    Args:
        scene: S S 3, uint8.
        pen: That has drawn the animal.
        sun: Where the light comes from: -1 left to 1 right.
        chance: Gives a number in a range.
    """
    line = max(round(LINES * pen.place.side), 1)
    left, top, right, bottom = pen.map.getbbox() or (0, 0, 1, 1)
    rows = slice(max(top - line, 0), min(bottom + line, pen.place.side))
    columns = slice(max(left - line, 0), min(right + line, pen.place.side))
    material = np.asarray(pen.map)[rows, columns]  # H W
    there = material > 0
    plain, marked = pen.palettes()
    palette = np.concatenate([plain, marked])  # 2(M+1) 3
    colour = palette[material + len(plain) * pattern(pen.place, rows, columns, chance)]  # H W 3

    lit = 1.0 - 0.22 * (np.arange(rows.start, rows.stop, dtype=np.float32) - pen.place.y) / pen.place.scale
    light = np.repeat(np.clip(lit, 0.75, 1.2)[:, None], material.shape[1], 1)  # H W
    for depth in (2, 4):  # the rim that the sun meets is lighter, the one that it doesn't darker
        x, y = round(depth * line * sun), -depth * line
        light[there & ~_moved(there, -x, -y)] *= 1.08
        light[there & ~_moved(there, x, y)] *= 0.92
    light[_edges(material, line) & there] *= 0.72
    outline = _grown(there, line) & ~there
    window = scene[rows, columns]  # H W 3
    window[outline] = (0.3 * palette[1 : len(plain)].mean(0)).astype(np.uint8)
    window[there] = (colour[there] * light[there][:, None]).clip(0, 255).astype(np.uint8)


def pattern(place: Place, rows: slice, columns: slice, chance: Chance) -> np.ndarray:
    """Where the coat is marked, H W bool: nowhere, in stripes, in spots, in patches or on the back."""
    choice, angle, rate, wobble = chance(0, 5), chance(0, math.pi), chance(9, 16), chance(0, 0.5)
    y = (np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - place.y) / place.scale  # H 1
    x = (np.arange(columns.start, columns.stop, dtype=np.float32)[None] - place.x) / place.scale  # 1 W
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)  # H W
    if choice < 1.2:
        return np.zeros(u.shape, dtype=bool)
    if choice < 2.4:
        return np.sin(rate * u + wobble * np.sin(5 * v)) > 0.35
    if choice < 3.6:
        return np.sin(rate * u) * np.sin(rate * v) > 0.4
    if choice < 4.4:
        return np.sin(0.45 * rate * u + 3 * wobble * np.sin(0.3 * rate * v)) * np.sin(0.4 * rate * v + angle) > 0.1
    return y + 0.06 * np.sin(rate * x) < -0.1 - wobble * 0.3


def _moved(there: np.ndarray, x: int, y: int) -> np.ndarray:
    """What is there, x to the right and y down; nothing comes in from outside."""
    height, width = there.shape
    moved = np.zeros_like(there)
    moved[max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)] = there[
        max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)
    ]
    return moved


def _grown(there: np.ndarray, by: int) -> np.ndarray:
    """What lies within ``by`` steps of it."""
    for _ in range(by):
        near = there.copy()
        near[1:] |= there[:-1]
        near[:-1] |= there[1:]
        near[:, 1:] |= there[:, :-1]
        near[:, :-1] |= there[:, 1:]
        there = near
    return there


def _edges(material: np.ndarray, line: int) -> np.ndarray:
    """Where one part meets another, H W bool."""
    edges = np.zeros(material.shape, dtype=bool)
    edges[line:] |= material[line:] != material[:-line]
    edges[:, line:] |= material[:, line:] != material[:, :-line]
    return edges
