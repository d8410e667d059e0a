"""Synthetic labeled images of animals: a downstream task that needs no download, no license and no disk.

They are drawings. Results on them show that the method works, not how much it will gain on photographs.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from headway.data.sources.base import Source
from headway.synthetic.draw import CLASSES, VERSION, class_index, draw_animal
from headway.synthetic.parallel import draw_all
from headway.utils.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor  # worker processes that draw do not import torch

__all__ = ["CLASSES", "VERSION", "DrawnAnimals", "class_index", "draw_animal", "write_folder"]


class DrawnAnimals(Source):
    """A source of synthetic images: each is drawn on access.

    Args:
        count: Number of images.
        side: Side of each in pixels, 32 to 256.
        seed: Collections with different seeds share no image.
    """

    classes = CLASSES

    def __init__(self, count: int, side: int = 64, seed: int = 0):
        self.count, self.side, self.seed = count, side, seed
        self._rendered: np.ndarray | None = None

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> Tensor:
        """3 side side, uint8: the same pixels as ``read`` encodes."""
        import torch

        return torch.from_numpy(self._pixels(index)).permute(2, 0, 1).contiguous()  # 3 H W

    def read(self, index: int) -> bytes:
        """The image as PNG."""
        buffer = io.BytesIO()
        Image.fromarray(self._pixels(index)).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    def name(self, index: int) -> str:
        """A name such as drawn/00012-cat.png."""
        return f"drawn/{self._check_index(index):05d}-{self.label(index)}.png"

    def label(self, index: int) -> str:
        """The animal, one of ``classes``."""
        return CLASSES[class_index(self.seed, self._check_index(index))]

    def version_key(self) -> str:
        """A text that determines the pixels."""
        return f"drawn animals version {VERSION}, seed {self.seed}, side {self.side}"

    def prerender(self, progress: Progress | None = None) -> None:
        """Draw all images now, on all cores, and keep them. ``progress`` gets the number drawn and their total."""
        self._rendered = draw_all(self.seed, self.count, self.side, progress)

    def _pixels(self, index: int) -> np.ndarray:
        index = self._check_index(index)
        return draw_animal(self.seed, index, self.side) if self._rendered is None else self._rendered[index]

    def _check_index(self, index: int) -> int:
        if not 0 <= index < self.count:
            raise IndexError(f"image {index} of {self.count}")
        return index


def write_folder(path: str | Path, count: int, side: int = 64, seed: int = 0) -> Path:
    """Write images as PNG files, one folder per class: PATH/cat/00012.png.

    Args:
        path: The folder; it is created if it is missing.
        count: Number of images, over all classes.
        side: Side of each in pixels, 32 to 256.
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
