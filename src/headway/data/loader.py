"""Batches of a stream: the pictures at places [step x batch, (step + 1) x batch), whatever epoch they fall into."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from headway.data.order import place_to_index
from headway.protocol import Batch


class Loader:
    """Hands out each process's part of every global batch.

    Args:
        images: N C H W, the stored pictures.
        seed: Of the order.
        batch: Pictures a step, over all processes.
        rank: This process's number.
        world: How many processes there are.
    """

    def __init__(self, images: Tensor, *, seed: int, batch: int, rank: int = 0, world: int = 1):
        self.images, self.seed, self.batch, self.rank, self.world = images, seed, batch, rank, world

    def batch_at(self, step: int) -> tuple[Batch, Tensor]:
        """This process's part of the batch of ``step``, and the place of each picture in the stream (B, int64)."""
        stream = torch.arange(step * self.batch, (step + 1) * self.batch)
        places = stream.tensor_split(self.world)[self.rank]  # B
        index = place_to_index(places, len(self.images), self.seed)  # B
        return Batch(self.images[index], index), places

    def batches(self, start: int, stop: int) -> Iterator[tuple[Batch, Tensor]]:
        """The batches of steps start..stop-1; the next one is gathered in a thread meanwhile."""
        if start >= stop:
            return
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self.batch_at, start)
            for step in range(start + 1, stop + 1):
                here = coming.result()
                if step < stop:
                    coming = pool.submit(self.batch_at, step)
                yield here
