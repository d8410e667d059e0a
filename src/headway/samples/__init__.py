"""Labelled animal pictures, drawn by program: a main task that needs no download, no licence and no disk.

They are drawings. What a method gains on them says that the machinery works, not what it will gain on photographs.
"""

import io
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from headway.samples.draw import KINDS, VERSION, draw, kind_of

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

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> Tensor:
        """3 side side, uint8: the same pixels as ``read`` encodes."""
        return torch.from_numpy(draw(self.seed, self._inside(index), self.side)).permute(2, 0, 1).contiguous()  # 3 H W

    def read(self, index: int) -> bytes:
        """The picture as PNG."""
        buffer = io.BytesIO()
        Image.fromarray(draw(self.seed, self._inside(index), self.side)).save(buffer, "PNG", compress_level=1)
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
