"""Pictures that are decoded already: an array or tensor as a source."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from headway.data.source import in_order
from headway.errors import HeadwayError


class Arrays:
    """A source over decoded pictures.

    Args:
        images: N 3 H W, uint8; a NumPy array or a tensor.
        labels: N class names; none: unlabelled.

    Raises:
        HeadwayError: Another shape or dtype, or a number of labels that is not N.
    """

    def __init__(self, images: Tensor | np.ndarray, labels: Sequence[str] | None = None):
        self.images = torch.as_tensor(images)
        if self.images.ndim != 4 or self.images.shape[1] != 3 or self.images.dtype != torch.uint8:
            given = f"{tuple(self.images.shape)} of {self.images.dtype}"
            raise HeadwayError(f"pictures as an array must be N x 3 x H x W of uint8, got {given}")
        if labels is not None and len(labels) != len(self.images):
            raise HeadwayError(f"{len(self.images)} pictures need as many labels, got {len(labels)}")
        self.labels = labels
        self.classes = None if labels is None else in_order(labels)

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Tensor:
        """The picture, 3 H W."""
        return self.images[index]

    def read(self, index: int) -> bytes:
        """Its pixels, row by row; ``image`` is what is used."""
        return self.images[index].numpy().tobytes()

    def name(self, index: int) -> str:
        """Its position."""
        return f"{index:08d}"

    def label(self, index: int) -> str | None:
        """The label given; None without labels."""
        return None if self.labels is None else self.labels[index]
