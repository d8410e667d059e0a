"""KoLeo: keep every picture away from its nearest neighbour, so that features spread evenly.

    loss = - mean_i log min_{j != i} || x_i - x_j ||,   x of length 1

up to constants the negative entropy of the features, as Kozachenko and Leonenko estimate it from nearest neighbours.

Sablayrolles, Douze, Schmid and Jegou, "Spreading vectors for similarity search", 2019
(https://arxiv.org/abs/1806.03198).
"""

import torch
from torch import Tensor

from headway.distributed import all_rows, repeated
from headway.nn.numerics import full_precision, unit

NEAREST = 1e-8
"""Distances below count as this one, so that the logarithm of two equal pictures' is finite."""


@full_precision
def koleo(features: Tensor, index: Tensor | None = None) -> Tensor:
    """The mean over this process's rows; neighbours are looked for on all processes.

    Args:
        features: B D, of any length; over all processes two rows at least.
        index: B, int64, the picture of each row, which is no neighbour of itself; none: all differ.
    """
    mine = unit(features)  # B D
    everyone, start = all_rows(mine)  # A D
    itself = torch.arange(start, start + len(mine), device=mine.device)[:, None]  # B 1
    with torch.no_grad():
        close = (mine @ everyone.T).scatter(1, itself, float("-inf"))  # B A
        if index is not None:
            close = close.masked_fill(repeated(index), float("-inf"))
        nearest = close.argmax(1)  # B
    squared = (mine - everyone[nearest]).square().sum(1)  # B
    return -(squared + NEAREST**2).log().mean() / 2  # log of the root; its slope at 0 is 0, not infinite
