"""Labelled animal pictures, drawn by program: a main task that needs no download, no licence and no disk.

They are drawings. What a method gains on them says that the machinery works, not what it will gain on photographs.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from headway.samples.crew import draw_all
from headway.samples.draw import KINDS, VERSION, draw, kind_of

if TYPE_CHECKING:
    from torch import Tensor  # a process that only draws imports no torch

__all__ = ["KINDS", "VERSION", "DrawnAnimals", "draw", "kind_of", "write_folder"]


class DrawnAnimals:
    """Drawn pictures as a source of data: each is drawn when it is asked for.

    Args:
        count: How many pictures.
        side: Of each, in pixels, 32 to 256.
        seed: Collections of different seeds share no picture.
    """

    classes = KINDS

    def __init__(self, count: int, side: int = 64, seed: int = 0):
        self.count, self.side, self.seed = count, side, seed
        self._drawn: np.ndarray | None = None

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> Tensor:
        """3 side side, uint8: the same pixels as ``read`` encodes."""
        import torch

        return torch.from_numpy(self._pixels(index)).permute(2, 0, 1).contiguous()  # 3 H W

    def read(self, index: int) -> bytes:
        """The picture as PNG."""
        buffer = io.BytesIO()
        Image.fromarray(self._pixels(index)).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    def name(self, index: int) -> str:
        """Such as drawn/00012-cat.png."""
        return f"drawn/{self._inside(index):05d}-{self.label(index)}.png"

    def label(self, index: int) -> str:
        """The kind of animal, one of ``classes``."""
        return KINDS[kind_of(self.seed, self._inside(index))]

    def stamp(self) -> str:
        """What the pixels are a function of."""
        return f"drawn animals version {VERSION}, seed {self.seed}, side {self.side}"

    def draw_ahead(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Draw all pictures now, on every core; they are kept. ``progress`` is told how many of how many are drawn."""
        self._drawn = draw_all(self.seed, self.count, self.side, progress)

    def _pixels(self, index: int) -> np.ndarray:
        index = self._inside(index)
        return draw(self.seed, index, self.side) if self._drawn is None else self._drawn[index]

    def _inside(self, index: int) -> int:
        if not 0 <= index < self.count:
            raise IndexError(f"picture {index} of {self.count}")
        return index


def write_folder(path: str | Path, count: int, side: int = 64, seed: int = 0) -> Path:
    """Write pictures as PNG files, one folder a class: PATH/cat/00012.png.

    Args:
        path: The folder; made where it is missing.
        count: How many pictures, over all classes.
        side: Of each, in pixels, 32 to 256.
        seed: Of the collection.

    Returns:
        The folder.
    """
    source, path = DrawnAnimals(count, side, seed), Path(path)
    for index in range(count):
        file = path / source.label(index) / f"{index:05d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(source.read(index))
    return path
