"""Two views of each picture, which joint-embedding tasks bring together."""

from typing import NamedTuple

import torch
from torch import Tensor

from headway.draws import Draws
from headway.protocol import Batch
from headway.views.augment import Augment


class Pair(NamedTuple):
    """The deal.

    Attributes:
        images: 2*B C H W, both views of B pictures, view-major: the first view of all, then the second.
        number: B, the pictures' positions in the data.
    """

    images: Tensor
    number: Tensor


def deal_pair(batch: Batch, draws: Draws, side: int, first: Augment, second: Augment) -> Pair:
    """Two independent views of each picture.

    Args:
        batch: B pictures.
        draws: Chance, per picture.
        side: Of the square views, in pixels.
        first: How the first view is made.
        second: How the second is made; the same settings give other crops and colours all the same.
    """
    views = [first(batch.images, draws.fork("first"), side), second(batch.images, draws.fork("second"), side)]
    return Pair(torch.cat(views), batch.index)
