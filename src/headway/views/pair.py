"""Two views of each picture, which joint-embedding tasks bring together."""

from typing import NamedTuple

import torch
from torch import Tensor

from headway.draws import Draws
from headway.views.augment import Augment


class Pair(NamedTuple):
    """The deal: both views of B pictures as 2*B C H W, view-major: the first view of all, then the second."""

    images: Tensor


def deal_pair(images: Tensor, draws: Draws, side: int, first: Augment, second: Augment) -> Pair:
    """Two independent views of each picture.

    Args:
        images: B C H W, uint8 or floating point in [0, 1].
        draws: Chance, per picture.
        side: Of the square views, in pixels.
        first: How the first view is made.
        second: How the second is made; the same settings give other crops and colours all the same.
    """
    views = [first(images, draws.fork("first"), side), second(images, draws.fork("second"), side)]
    return Pair(torch.cat(views))  # 2*B C H W
