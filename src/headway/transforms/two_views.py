"""Two views of each image for joint-embedding tasks."""

from typing import NamedTuple

import torch
from torch import Tensor

from headway.protocol import Batch
from headway.rng import SampleRNG
from headway.transforms.augment import Augment


class TwoViews(NamedTuple):
    """Two views of each image.

    Attributes:
        images: 2*B C H W, view-major: the first view of all B images, then the second.
        sample_index: B, index of each image in the data set.
    """

    images: Tensor
    sample_index: Tensor


def two_views(batch: Batch, rng: SampleRNG, size: int, first: Augment, second: Augment) -> TwoViews:
    """Make two independent views of each image.

    Args:
        batch: B images.
        rng: Random numbers of each image.
        size: Side of the square views in pixels.
        first: Augmentation of the first view.
        second: Augmentation of the second view; even if it equals ``first``, the views differ.
    """
    views = [first(batch.images, rng.fold_in("first"), size), second(batch.images, rng.fold_in("second"), size)]
    return TwoViews(torch.cat(views), batch.sample_index)
