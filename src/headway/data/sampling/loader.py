"""Batches of shuffled images. A step's images are consecutive in an endless stream, so one integer is the position."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from headway.data.dataset.subset import Images
from headway.data.sampling.shuffle import shuffled_index
from headway.protocol import Batch
from headway.utils.threads import prefetch_map


@dataclass(eq=False)
class Loader:
    """Yields batches of stored images in shuffled order.

    Step s takes ``batch_size`` positions of the stream, from start_position + s x batch_size on. A batch may cross the
    end of an epoch. Each process takes its contiguous part of the batch, so that N processes together yield the same
    images as one process. With fewer images than ``batch_size``, a batch contains images more than once.

    Args:
        images: N C H W, the images of an ``ImageStore``.
        seed: Seed of the shuffle.
        batch_size: Images per step over all processes.
        rank: Rank of this process, from 0.
        world_size: Number of processes.
        start_position: Stream position of the first image of step 0.

    Raises:
        ValueError: There are no images, or ``batch_size`` is below 1.
    """

    images: Images
    seed: int
    batch_size: int
    rank: int = 0
    world_size: int = 1
    start_position: int = 0

    def __post_init__(self) -> None:
        count, size = len(self.images), self.batch_size
        if not count or size < 1:
            raise ValueError(f"a loader needs images and a batch size of 1 or more, got {count} and {size}")

    def batch_at(self, step: int) -> tuple[Batch, Tensor]:
        """This process's part of a step: the batch of B images and their stream positions (B, int64)."""
        begin = self.start_position + step * self.batch_size
        positions = torch.arange(begin, begin + self.batch_size).tensor_split(self.world_size)[self.rank]  # B
        index = shuffled_index(positions, len(self.images), self.seed)  # B
        return Batch(self.images.index_select(0, index), index), positions

    def batches(self, start: int, stop: int) -> Iterator[tuple[Batch, Tensor]]:
        """The batches of steps start..stop-1. A thread gathers the next batch; it ends with the iterator."""
        return prefetch_map(self.batch_at, range(start, stop), 1, 1, "headway-loader")
