"""Batches: the pictures of a step are a stretch of one endless stream, so the position in the data is one integer."""

from collections.abc import Iterator

import torch
from torch import Tensor

from headway.data.order import place_to_index
from headway.data.picked import Pictures
from headway.protocol import Batch
from headway.threads import pool


class Loader:
    """Deals stored pictures in shuffled order.

    Step s has ``batch`` places of the stream, from first + s x batch on, across the end of an epoch where one falls
    within; each process takes its contiguous part, so N processes together deal what one would. Where there are fewer
    pictures than the batch holds, a batch shows them more than once.

    Args:
        images: N C H W, the store's pictures.
        seed: Of the order.
        batch: Pictures a step over all processes.
        rank: This process's number, from 0.
        world: How many processes there are.
        first: The place of step 0's first picture.

    Raises:
        ValueError: No pictures, or a batch below 1.
    """

    def __init__(self, images: Pictures, *, seed: int, batch: int, rank: int = 0, world: int = 1, first: int = 0):
        if not len(images) or batch < 1:
            raise ValueError(
                f"a loader needs pictures and a batch of 1 or more, got {len(images)} pictures, batch {batch}"
            )
        self.images, self.seed, self.batch, self.rank, self.world = images, seed, batch, rank, world
        self.first = first

    def batch_at(self, step: int) -> tuple[Batch, Tensor]:
        """This process's part of a step: the batch (B of them) and its places in the stream (B, int64)."""
        begin = self.first + step * self.batch
        places = torch.arange(begin, begin + self.batch).tensor_split(self.world)[self.rank]  # B
        index = place_to_index(places, len(self.images), self.seed)  # B
        return Batch(self.images.index_select(0, index), index), places

    def batches(self, start: int, stop: int) -> Iterator[tuple[Batch, Tensor]]:
        """The batches of steps start..stop-1; the next is gathered in a thread, which ends with the iterator."""
        with pool(1, "headway-loader") as thread:
            coming = thread.submit(self.batch_at, start) if start < stop else None
            for step in range(start + 1, stop + 1):
                assert coming is not None
                current = coming.result()
                coming = thread.submit(self.batch_at, step) if step < stop else None
                yield current
