"""Pictures that are decoded already: an array or tensor as a source."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from headway.data.form import Form
from headway.data.items import Items
from headway.errors import HeadwayError


class Arrays(Items):
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
            self.images: Tensor = torch.as_tensor(images)
        except TypeError as error:
            raise HeadwayError(strange) from error
        if self.images.ndim != 4 or 0 in self.images.shape[1:] or self.images.is_complex():
            raise HeadwayError(strange)
        if self.images.shape[1] > 4 and self.images.shape[3] <= 4:
            raise HeadwayError(
                f"pictures as an array must be N x C x H x W, got {given}; move the channels to the front"
            )
        super().__init__(self.images, "", labels)
        self.form, self.stored = form, form

    def name(self, index: int) -> str:
        """Its position."""
        return f"{index:08d}"
