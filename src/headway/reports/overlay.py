"""A map of numbers laid over a picture: what is looked at glows, the rest falls back."""

import numpy as np
from torch import Tensor

from headway.reports.sheet import PAPER

STOPS = ((13, 8, 60), (120, 28, 109), (207, 68, 70), (246, 146, 32), (252, 240, 150))
"""Colours from nothing to most, evenly spaced: dark to light in grey print too."""
ALPHA = (0.5, 0.72)
"""How much of the colour covers the picture, from nothing to most."""
WARM, COLD = (244, 166, 88), (120, 170, 230)
"""Grounds of the cells with the largest numbers above and below zero."""
MARK = (255, 255, 255)
"""Colour of the frame around the patch that looks; a dark line runs along it."""


def colours() -> np.ndarray:
    """The colour and cover of each of 256 levels: 256 4, uint8 (red, green, blue, alpha)."""
    level, places = np.linspace(0, 1, 256), np.linspace(0, 1, len(STOPS))
    columns = [np.interp(level, places, channel) for channel in zip(*STOPS, strict=True)]
    cover = 255 * np.interp(level, (0, 1), ALPHA)
    return np.rint(np.stack([*columns, cover], 1)).astype(np.uint8)  # 256 4


def levels(maps: Tensor) -> np.ndarray:
    """Numbers of 0 or more as levels of their row's largest: ... N -> ... N, uint8."""
    top = maps.amax(-1, keepdim=True).clamp_min(1e-30)
    return (maps / top * 255).round().byte().cpu().numpy()


def overlay(picture: np.ndarray, level: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Lay a map over a picture.

    Args:
        picture: H W 3, uint8; rows and columns of the grid divide it.
        level: N, uint8, row-major.
        grid: Rows and columns.

    Returns:
        H W 3, uint8.
    """
    tall, wide = picture.shape[0] // grid[0], picture.shape[1] // grid[1]
    paint = colours()[level.reshape(grid)].repeat(tall, 0).repeat(wide, 1).astype(np.float32)  # H W 4
    cover = paint[..., 3:] / 255
    return np.rint(picture * (1 - cover) + paint[..., :3] * cover).astype(np.uint8)  # H W 3


def marked(picture: np.ndarray, place: tuple[int, int] | None, grid: tuple[int, int]) -> np.ndarray:
    """The picture, H W 3, with a frame around one patch (row, column); None leaves it as it is."""
    if place is None:
        return picture
    framed = picture.copy()
    tall, wide = picture.shape[0] // grid[0], picture.shape[1] // grid[1]
    line = max(min(tall // 8, wide // 8, max(picture.shape[:2]) // 64), 1)
    top, left = place[0] * tall, place[1] * wide
    for inset, colour in ((0, (20, 20, 24)), (line, MARK)):
        box = framed[top + inset : top + tall - inset, left + inset : left + wide - inset]
        inner = box[line:-line, line:-line].copy()
        box[:] = colour
        box[line:-line, line:-line] = inner
    return framed


def ruled(picture: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The picture, H W 3, with thin lines between patches."""
    lined = picture.copy()
    tall, wide = picture.shape[0] // grid[0], picture.shape[1] // grid[1]
    for lines in (lined[tall::tall], lined[:, wide::wide]):
        lines[:] = lines // 2 + 110
    return lined


def heat(value: float, low: float, high: float) -> tuple[int, int, int]:
    """The ground of a cell, light enough for dark letters: from paper at ``low`` to a warm tone at ``high``.

    Where ``low`` lies below 0, paper stands for 0, and what is below grows as blue as what is above grows warm.
    """
    if low < 0:
        low, high, value, end = 0.0, max(-low, high), abs(value), COLD if value < 0 else WARM
    else:
        end = WARM
    share = min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.0
    red, green, blue = (round(p + share * (e - p)) for p, e in zip(PAPER, end, strict=True))
    return red, green, blue
