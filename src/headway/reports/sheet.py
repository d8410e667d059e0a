"""A contact sheet of a game, as a PNG: a row a picture, a column a panel, generated labels and answers below.

Only pixels are drawn: nothing that a file says of itself (place, camera, owner) reaches the sheet.
"""

import io
import math
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from headway.protocol import Panel

PAPER, INK, FAINT = (252, 251, 248), (32, 33, 36), (112, 114, 120)
MARKS = {"right": (24, 121, 58), "wrong": (184, 44, 32)}
"""Colours of captions by their last word."""
WANTED = 128
"""Side in pixels to which the largest picture is enlarged, about: by a whole factor, so that no pixel is blurred."""
ROOMY, WIDEST = 96, 1500
"""Width that words may take of a column of smaller pictures, and of the sheet where blocks are set side by side."""
SHAPE = 1.5
"""Width / height that the arrangement of blocks aims at."""
GAP, MARGIN, BETWEEN = 12, 28, 36
"""Pixels between pictures, around the sheet, and between blocks."""


class Sheet(NamedTuple):
    """What is to be shown.

    Attributes:
        title: Name of the game.
        claim: What it is, in a line.
        panels: Its columns, each with B pictures.
        names: B names of the pictures' files.
        note: What the pictures are, how they were dealt and who answers.
        link: The paper.
        story: The head of the task's file: text, with formulas indented.
    """

    title: str
    claim: str
    panels: Sequence[Panel]
    names: Sequence[str]
    note: str
    link: str = ""
    story: str = ""


def pixels(panel: Panel) -> np.ndarray:
    """Its pictures as B H W 3, uint8."""
    channels = panel.images.shape[1]
    shown = panel.images if channels in (1, 3) else panel.images[:, : 3 if channels > 3 else 1]  # B 3 H W or B 1 H W
    images = shown.detach().float().clamp(0, 1).mul(255).round().byte()
    return images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()  # B H W 3


def factor(panels: Sequence[Panel]) -> int:
    """By how much every picture is enlarged, all alike, so that a small crop looks small."""
    largest = max(max(panel.images.shape[2:]) for panel in panels)
    return max(round(WANTED / largest), 1)


def mark(caption: str) -> str:
    """The verdict "right" or "wrong" that a caption ends in, after a comma; empty where it gives none."""
    return next((word for word in MARKS if caption.endswith(f", {word}")), "")


def write_png(sheet: Sheet) -> bytes:
    """Draw the sheet: the bytes of a PNG."""
    grid = _Grid(sheet.panels)
    width = max(grid.width, 420)
    head, foot = _Text(26).lines(sheet.title, width), _Text(12).lines(sheet.note, width)
    claim, link = _Text(15).lines(sheet.claim[:1].upper() + sheet.claim[1:], width), _Text(12).lines(sheet.link, width)
    above = 36 * len(head) + 21 * len(claim) + 22
    below = 20 + 17 * (len(foot) + len(link))
    image = Image.new("RGB", (width + 2 * MARGIN, above + grid.height + below + 2 * MARGIN), PAPER)
    pen = ImageDraw.Draw(image)
    y = _write(pen, MARGIN, MARGIN, head, _Text(26), 36, INK)
    _write(pen, MARGIN, y, claim, _Text(15), 21, INK)
    grid.draw(image, MARGIN, MARGIN + above)
    y = MARGIN + above + grid.height + 20
    y = _write(pen, MARGIN, y, foot, _Text(12), 17, FAINT)
    _write(pen, MARGIN, y, link, _Text(12), 17, FAINT)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


class _Text:
    """Pillow's own typeface at a size, and lines no wider than a column."""

    def __init__(self, size: int):
        self.font = ImageFont.load_default(size)

    def width(self, text: str) -> int:
        """Of the text in one line, in pixels."""
        return math.ceil(self.font.getlength(_plain(text)))

    def lines(self, text: str, width: float) -> list[str]:
        """The text in as few lines as it takes; a word that is wider than the column stands alone."""
        done: list[str] = []
        for word in _plain(text).split():
            longer = f"{done[-1]} {word}" if done else word
            if done and self.font.getlength(longer) <= width:
                done[-1] = longer
            else:
                done.append(word)
        return done


class _Grid:
    """Where everything stands: blocks side by side, each with all columns and its share of the rows."""

    def __init__(self, panels: Sequence[Panel]):
        self.panels, self.factor = panels, factor(panels)
        self.count = len(panels[0].images)
        self.tall = max(panel.images.shape[2] for panel in panels) * self.factor
        titles, captions = _Text(14), _Text(13)
        words = [max([titles.width(p.title), *map(captions.width, p.captions)]) for p in panels]
        self.columns = [max(p.images.shape[3] * self.factor, min(w, ROOMY)) for p, w in zip(panels, words, strict=True)]
        self.titles = [titles.lines(p.title, w) for p, w in zip(panels, self.columns, strict=True)]
        self.captions = [
            [captions.lines(caption, w) for caption in p.captions] or [[]] * self.count
            for p, w in zip(panels, self.columns, strict=True)
        ]
        self.head = 18 * max(map(len, self.titles)) + 8
        written = max(len(lines) for column in self.captions for lines in column)
        self.row = self.tall + 16 * written + (20 if written else GAP)
        self.block = sum(self.columns) + GAP * (len(self.columns) - 1)
        self.blocks = min(range(1, self.count + 1), key=self._misfit)
        self.rows = math.ceil(self.count / self.blocks)
        self.blocks = math.ceil(self.count / self.rows)
        self.width, self.height = self._extent(self.blocks)

    def _extent(self, blocks: int) -> tuple[int, int]:
        rows = math.ceil(self.count / blocks)
        return blocks * self.block + (blocks - 1) * BETWEEN, self.head + rows * self.row

    def _misfit(self, blocks: int) -> float:
        width, height = self._extent(blocks)
        empty = 2 * (-self.count % blocks) / self.count
        return abs(math.log(width / (height + 120) / SHAPE)) + empty + (10 if blocks > 1 and width > WIDEST else 0)

    def draw(self, image: Image.Image, left: int, top: int) -> None:
        """Draw every block with its corner at (left, top)."""
        pen = ImageDraw.Draw(image)
        for block in range(self.blocks):
            x = left + block * (self.block + BETWEEN)
            numbers = range(block * self.rows, min((block + 1) * self.rows, self.count))
            for panel, width, title, captions in zip(
                self.panels, self.columns, self.titles, self.captions, strict=True
            ):
                _write(pen, x, top + self.head - 8 - 18 * len(title), title, _Text(14), 18, INK)
                pictures = pixels(panel)  # B H W 3
                for row, number in enumerate(numbers):
                    enlarged = pictures[number].repeat(self.factor, 0).repeat(self.factor, 1)  # H W 3
                    floor = top + self.head + row * self.row + self.tall  # pictures of one row stand on one line
                    image.paste(Image.fromarray(enlarged), (x, floor - len(enlarged)))
                    verdict = mark(panel.captions[number]) if panel.captions else ""
                    _write(pen, x, floor + 4, captions[number], _Text(13), 16, MARKS.get(verdict, FAINT))
                x += width + GAP


def _write(
    pen: ImageDraw.ImageDraw, x: int, y: int, lines: Sequence[str], text: _Text, step: int, colour: tuple[int, int, int]
) -> int:
    """Write lines downwards from (x, y); gives the place below them."""
    for line in lines:
        pen.text((x, y), line, colour, text.font)
        y += step
    return y


def _plain(text: str) -> str:
    """The text in ASCII, all that Pillow's typeface has: accents are dropped, other letters become question marks."""
    bare = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return bare.encode("ascii", "replace").decode()
