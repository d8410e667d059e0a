"""Heat maps over images: large values are bright, small ones dark."""

import numpy as np
from torch import Tensor

from headway.reports.image_grid import BACKGROUND

COLORMAP_STOPS = ((13, 8, 60), (120, 28, 109), (207, 68, 70), (246, 146, 32), (252, 240, 150))
"""Colors from zero to the maximum, evenly spaced; their brightness increases, so that they work in gray too."""
ALPHA_RANGE = (0.5, 0.72)
"""Opacity of the color, from zero to the maximum."""
POSITIVE_COLOR, NEGATIVE_COLOR = (244, 166, 88), (120, 170, 230)
"""Backgrounds of the cells with the largest numbers above and below zero."""
FRAME_COLOR = (255, 255, 255)
"""Color of the frame around a patch; it has a dark outer line."""


def colormap() -> np.ndarray:
    """The color of each of 256 levels: 256 4, uint8 (red, green, blue, alpha)."""
    level, stops = np.linspace(0, 1, 256), np.linspace(0, 1, len(COLORMAP_STOPS))
    columns = [np.interp(level, stops, channel) for channel in zip(*COLORMAP_STOPS, strict=True)]
    alpha = 255 * np.interp(level, (0, 1), ALPHA_RANGE)
    return np.rint(np.stack([*columns, alpha], 1)).astype(np.uint8)  # 256 4


def to_levels(maps: Tensor) -> np.ndarray:
    """Nonnegative numbers as levels of the maximum of their row: ... N -> ... N, uint8."""
    top = maps.amax(-1, keepdim=True).clamp_min(1e-30)
    return (maps / top * 255).round().byte().cpu().numpy()


def overlay_map(image: np.ndarray, levels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Blend a map over an image.

    Args:
        image: H W 3, uint8; rows and columns of the grid divide it.
        levels: N, uint8, row-major.
        grid: Rows and columns of patches.

    Returns:
        H W 3, uint8.
    """
    height, width = _patch_shape(image, grid)
    color = colormap()[levels.reshape(grid)].repeat(height, 0).repeat(width, 1).astype(np.float32)  # H W 4
    alpha = color[..., 3:] / 255
    return np.rint(image * (1 - alpha) + color[..., :3] * alpha).astype(np.uint8)  # H W 3


def frame_patch(image: np.ndarray, patch: tuple[int, int] | None, grid: tuple[int, int]) -> np.ndarray:
    """The image, H W 3, with a frame around one patch (row, column); None leaves it as it is."""
    if patch is None:
        return image
    framed = image.copy()
    height, width = _patch_shape(image, grid)
    line = max(min(height // 8, width // 8, max(image.shape[:2]) // 64), 1)
    top, left = patch[0] * height, patch[1] * width
    for inset, color in ((0, (20, 20, 24)), (line, FRAME_COLOR)):
        box = framed[top + inset : top + height - inset, left + inset : left + width - inset]
        inner = box[line:-line, line:-line].copy()
        box[:] = color
        box[line:-line, line:-line] = inner
    return framed


def _patch_shape(image: np.ndarray, grid: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a patch in pixels."""
    return image.shape[0] // grid[0], image.shape[1] // grid[1]


def draw_patch_lines(image: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The image, H W 3, with thin lines between patches."""
    lined = image.copy()
    height, width = _patch_shape(image, grid)
    for lines in (lined[height::height], lined[:, width::width]):
        lines[:] = lines // 2 + 110
    return lined


def cell_color(value: float, low: float, high: float) -> tuple[int, int, int]:
    """The background of a table cell, light enough for dark text: from the page's at ``low`` to orange at ``high``.

    Where ``low`` lies below 0, the page's background stands for 0, negative values are blue and positive ones orange.
    """
    end = NEGATIVE_COLOR if low < 0 and value < 0 else POSITIVE_COLOR
    if low < 0:
        low, high, value = 0.0, max(-low, high), abs(value)
    share = min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.0
    red, green, blue = (round(p + share * (e - p)) for p, e in zip(BACKGROUND, end, strict=True))
    return red, green, blue
