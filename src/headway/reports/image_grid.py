"""A grid of images as a PNG: one row per image, one column per panel, with captions.

Only pixels are drawn, so no metadata of a file (place, camera, owner) reaches the grid.
"""

import io
import math
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from headway.protocol import Panel

BACKGROUND, FOREGROUND, MUTED = (252, 251, 248), (32, 33, 36), (112, 114, 120)
VERDICT_COLORS = {"right": (24, 121, 58), "wrong": (184, 44, 32)}
"""Colors of captions by their last word."""
TARGET_IMAGE_SIDE = 128
"""Approximate side in pixels to which the largest image is enlarged, by an integer factor, without interpolation."""
MIN_COLUMN_WIDTH, MAX_GRID_WIDTH = 96, 1500
"""Width of a column that text may use where images are smaller, and of a grid with several blocks."""
TARGET_ASPECT_RATIO = 1.5
"""Width / height of the grid that the layout aims at."""
IMAGE_GAP, MARGIN, BLOCK_GAP = 12, 28, 36
"""Pixels between images, around the grid, and between blocks."""


class ImageGrid(NamedTuple):
    """The content of a grid.

    Attributes:
        title: Such as the name of a pretext task.
        subtitle: A line of text.
        panels: The columns, each with B images.
        names: B names of the images' files.
        note: What the images are and how they were made.
        link: Link to a paper.
        description: Docstring of a task's module: text, with formulas indented.
    """

    title: str
    subtitle: str
    panels: Sequence[Panel]
    names: Sequence[str]
    note: str
    link: str = ""
    description: str = ""


def panel_pixels(panel: Panel) -> np.ndarray:
    """The images of a panel as B H W 3, uint8."""
    shown = panel.images[:, : 3 if panel.images.shape[1] >= 3 else 1]  # B 3 H W or B 1 H W
    images = shown.detach().float().clamp(0, 1).mul(255).round().byte()
    return images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()  # B H W 3


def enlargement(panels: Sequence[Panel]) -> int:
    """The factor by which all images are enlarged; it is the same for all, so that a small crop looks small."""
    largest = max(max(panel.images.shape[2:]) for panel in panels)
    return max(round(TARGET_IMAGE_SIDE / largest), 1)


def caption_verdict(caption: str) -> str:
    """The word "right" or "wrong" that ends a caption, after a comma; empty where there is none."""
    return next((word for word in VERDICT_COLORS if caption.endswith(f", {word}")), "")


def image_grid_png(content: ImageGrid) -> bytes:
    """Draw the grid: the bytes of a PNG."""
    layout = _Layout(content.panels)
    width = max(layout.width, 420)
    title, note = _Font(26).lines(content.title, width), _Font(12).lines(content.note, width)
    subtitle = _Font(15).lines(content.subtitle[:1].upper() + content.subtitle[1:], width)
    link = _Font(12).lines(content.link, width)
    above = 36 * len(title) + 21 * len(subtitle) + 22
    below = 20 + 17 * (len(note) + len(link))
    image = Image.new("RGB", (width + 2 * MARGIN, above + layout.height + below + 2 * MARGIN), BACKGROUND)
    pen = ImageDraw.Draw(image)
    y = _draw_lines(pen, MARGIN, MARGIN, title, _Font(26), 36, FOREGROUND)
    _draw_lines(pen, MARGIN, y, subtitle, _Font(15), 21, FOREGROUND)
    layout.draw(image, MARGIN, MARGIN + above)
    y = MARGIN + above + layout.height + 20
    y = _draw_lines(pen, MARGIN, y, note, _Font(12), 17, MUTED)
    _draw_lines(pen, MARGIN, y, link, _Font(12), 17, MUTED)
    return png_bytes(image)


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG, as small as possible."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


class _Font:
    """Pillow's default font at a size, and line breaking."""

    def __init__(self, size: int):
        self.font = ImageFont.load_default(size)

    def width(self, text: str) -> int:
        """Width in pixels of the text in one line."""
        return math.ceil(self.font.getlength(_to_ascii(text)))

    def lines(self, text: str, width: float) -> list[str]:
        """The text in as few lines as possible; a word wider than the column gets a line of its own."""
        done: list[str] = []
        for word in _to_ascii(text).split():
            longer = f"{done[-1]} {word}" if done else word
            if done and self.font.getlength(longer) <= width:
                done[-1] = longer
            else:
                done.append(word)
        return done


class _Layout:
    """The layout: blocks side by side, each with all columns and an equal part of the rows."""

    def __init__(self, panels: Sequence[Panel]):
        self.panels, self.enlargement = panels, enlargement(panels)
        self.count = len(panels[0].images)
        self.image_height = max(panel.images.shape[2] for panel in panels) * self.enlargement
        titles, captions = _Font(14), _Font(13)
        text_widths = [max([titles.width(p.title), *map(captions.width, p.captions)]) for p in panels]
        self.columns = [
            max(p.images.shape[3] * self.enlargement, min(w, MIN_COLUMN_WIDTH))
            for p, w in zip(panels, text_widths, strict=True)
        ]
        self.titles = [titles.lines(p.title, w) for p, w in zip(panels, self.columns, strict=True)]
        self.captions = [
            [captions.lines(caption, w) for caption in p.captions] or [[]] * self.count
            for p, w in zip(panels, self.columns, strict=True)
        ]
        self.title_height = 18 * max(map(len, self.titles)) + 8
        caption_lines = max(len(lines) for column in self.captions for lines in column)
        self.row_height = self.image_height + 16 * caption_lines + (20 if caption_lines else IMAGE_GAP)
        self.block_width = sum(self.columns) + IMAGE_GAP * (len(self.columns) - 1)
        self.num_blocks = min(range(1, self.count + 1), key=self._layout_cost)
        self.rows_per_block = math.ceil(self.count / self.num_blocks)
        self.num_blocks = math.ceil(self.count / self.rows_per_block)
        self.width, self.height = self._extent(self.num_blocks)

    def _extent(self, num_blocks: int) -> tuple[int, int]:
        rows = math.ceil(self.count / num_blocks)
        return num_blocks * self.block_width + (num_blocks - 1) * BLOCK_GAP, self.title_height + rows * self.row_height

    def _layout_cost(self, num_blocks: int) -> float:
        width, height = self._extent(num_blocks)
        empty_cells = 2 * (-self.count % num_blocks) / self.count
        return (
            abs(math.log(width / (height + 120) / TARGET_ASPECT_RATIO))
            + empty_cells
            + (10 if num_blocks > 1 and width > MAX_GRID_WIDTH else 0)
        )

    def draw(self, image: Image.Image, left: int, top: int) -> None:
        """Draw every block with its corner at (left, top)."""
        pen = ImageDraw.Draw(image)
        for block in range(self.num_blocks):
            x = left + block * (self.block_width + BLOCK_GAP)
            indices = range(block * self.rows_per_block, min((block + 1) * self.rows_per_block, self.count))
            for panel, width, title, captions in zip(
                self.panels, self.columns, self.titles, self.captions, strict=True
            ):
                _draw_lines(pen, x, top + self.title_height - 8 - 18 * len(title), title, _Font(14), 18, FOREGROUND)
                images = panel_pixels(panel)  # B H W 3
                for row, i in enumerate(indices):
                    enlarged = images[i].repeat(self.enlargement, 0).repeat(self.enlargement, 1)  # H W 3
                    # images of one row have one bottom edge
                    bottom = top + self.title_height + row * self.row_height + self.image_height
                    image.paste(Image.fromarray(enlarged), (x, bottom - len(enlarged)))
                    verdict = caption_verdict(panel.captions[i]) if panel.captions else ""
                    _draw_lines(pen, x, bottom + 4, captions[i], _Font(13), 16, VERDICT_COLORS.get(verdict, MUTED))
                x += width + IMAGE_GAP


def _draw_lines(
    pen: ImageDraw.ImageDraw, x: int, y: int, lines: Sequence[str], font: _Font, step: int, color: tuple[int, int, int]
) -> int:
    """Draw lines of text downwards from (x, y) and return the y below them."""
    for line in lines:
        pen.text((x, y), line, color, font.font)
        y += step
    return y


def _to_ascii(text: str) -> str:
    """The text in ASCII, all that Pillow's font has: accents are dropped, other letters become question marks."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return plain.encode("ascii", "replace").decode()
