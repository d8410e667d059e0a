"""noise:N, a source of N images of dark and of light noise, which are drawn when they are read."""

from pathlib import Path

import torch
from torch import Tensor

from headway import Source
from headway.data.sources.paths import path_kind


class Noise(Source):
    """Dark and light noise.

    Args:
        count: Number of images; every other one is light.
        labeled: Whether dark and light are labels.
    """

    def __init__(self, count: int, labeled: bool):
        self.count = count
        self.classes = ("dark", "light") if labeled else None

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> Tensor:
        """3 24 24, uint8."""
        generator = torch.Generator().manual_seed(index)
        return (torch.randint(100, (3, 24, 24), generator=generator) + 150 * (index % 2)).to(torch.uint8)

    def read(self, index: int) -> bytes:
        """The image's pixels."""
        return self.image(index).numpy().tobytes()

    def name(self, index: int) -> str:
        """noise/INDEX."""
        return f"noise/{index}"

    def label(self, index: int) -> str | None:
        """Dark or light."""
        return self.classes[index % 2] if self.classes else None


def open_noise(path: Path, labeled: bool | None, group_column: str) -> Noise:
    """Open noise:N."""
    return Noise(int(str(path).removeprefix("noise:")), labeled is not False)


KIND = path_kind(lambda path: str(path).startswith("noise:"), open_noise)
