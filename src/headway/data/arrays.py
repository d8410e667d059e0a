"""Pictures that are decoded already: an array or tensor as a source."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from headway.data.form import Form
from headway.data.source import in_order
from headway.errors import HeadwayError


class Arrays:
    """A source over decoded pictures.

    Args:
        images: N C H W, whole or floating-point numbers; a NumPy array or a tensor. 8 bits are uint8.
        labels: N class names; none: unlabelled.
        form: That of a store whose pictures they are, which are taken as they are then.

    Raises:
        HeadwayError: Another shape or dtype, or a number of labels that is not N.
    """

    def __init__(self, images: Tensor | np.ndarray, labels: Sequence[str] | None = None, form: Form | None = None):
        given = f"{tuple(images.shape)} of {images.dtype}"
        strange = f"pictures as an array must be N x C x H x W of whole or floating-point numbers, got {given}"
        try:
            self.images = torch.as_tensor(images)
        except TypeError as error:
            raise HeadwayError(strange) from error
        if self.images.ndim != 4 or 0 in self.images.shape[1:] or self.images.is_complex():
            raise HeadwayError(strange)
        if self.images.shape[1] > 4 and self.images.shape[3] <= 4:
            raise HeadwayError(
                f"pictures as an array must be N x C x H x W, got {given}; move the channels to the front"
            )
        if labels is not None and len(labels) != len(self.images):
            raise HeadwayError(f"{len(self.images)} pictures need as many labels, got {len(labels)}")
        self.labels, self.form, self.stored = labels, form, form
        self.classes = None if labels is None else in_order(labels)

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Tensor:
        """The picture, C H W."""
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
