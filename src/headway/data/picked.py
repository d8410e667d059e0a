"""Some rows of a store's pictures, gathered as they are used: a mapped file stays on the disk."""

from collections.abc import Iterator

import torch
from torch import Tensor


class Picked:
    """Reads like the tensor ``images[rows]`` where a loader, a probe or a test looks at it, without copying it first.

    Args:
        images: N C H W, in memory or mapped.
        rows: n, int64: which of them, in order.
    """

    def __init__(self, images: Tensor, rows: Tensor):
        self.images, self.rows = images, rows
        self.shape = torch.Size([len(rows), *images.shape[1:]])
        self.dtype, self.device = images.dtype, images.device

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        return self.images.index_select(0, self.rows[index])  # n' C H W

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The chosen rows, n' C H W."""
        assert dim == 0, "pictures are picked by rows"
        return self[index]

    def split(self, size: int) -> Iterator[Tensor]:
        """All rows, ``size`` at a time."""
        return (self[slice(start, start + size)] for start in range(0, len(self), size))

    def pick(self, rows: Tensor) -> "Picked":
        """Some of these rows, still not copied."""
        return Picked(self.images, self.rows[rows])


Pictures = Tensor | Picked
"""N C H W, whether in memory or still on the disk."""


def pick(images: Pictures, rows: Tensor) -> Picked:
    """Some rows, not copied."""
    return images.pick(rows) if isinstance(images, Picked) else Picked(images, rows)
