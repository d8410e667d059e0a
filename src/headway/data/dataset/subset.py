"""Subsets of stored images. Rows are gathered when they are used, so a memory-mapped file stays on disk."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from headway.utils.hashing import stable_hash


class ImageSubset:
    """Behaves like the tensor ``images[rows]`` for loaders and probes, without copying the images first.

    Args:
        images: N C H W, in memory or memory-mapped.
        rows: n, int64: the rows of ``images`` in the subset, in order.
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
        """The selected images, n' C H W."""
        assert dim == 0, "images are selected along the first dimension"
        return self[index]

    def split(self, size: int) -> Iterator[Tensor]:
        """Yield all images, ``size`` at a time."""
        return (self[slice(start, start + size)] for start in range(0, len(self), size))

    def subset(self, rows: Tensor) -> "ImageSubset":
        """A subset of this subset, without copying."""
        return ImageSubset(self.images, self.rows[rows])


Images = Tensor | ImageSubset
"""N C H W, in memory or on disk."""


def subset(images: Images, rows: Tensor) -> ImageSubset:
    """A subset of the images, without copying."""
    return images.subset(rows) if isinstance(images, ImageSubset) else ImageSubset(images, rows)


def evenly_spaced_indices(count: int, max_count: int) -> list[int]:
    """At most ``max_count`` of the indices 0..count-1, spread evenly over them, ascending.

    A hash selects one index of each of ``max_count`` intervals of equal length. A fixed stride would always meet the
    same classes where classes alternate.
    """
    size = min(count, max_count)
    ends = [number * count // size for number in range(size + 1)] if size else []
    return [low + stable_hash("evenly", low) % (high - low) for low, high in pairwise(ends)]


def subsample_evenly(images: Images, max_images: int) -> torch.Tensor:
    """At most ``max_images`` of N images, evenly spaced."""
    return images[torch.tensor(evenly_spaced_indices(len(images), max_images), dtype=torch.int64)]
