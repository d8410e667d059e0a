"""Images as scikit-learn passes them: lists, arrays, and columns of tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from headway.data.sources.base import Source
from headway.data.sources.in_memory import DatasetSource
from headway.errors import HeadwayError

MAX_COLOR_CHANNELS = 4
"""An axis of this length or less is the channel axis of an array of images."""
RANGE_TOLERANCE = 1e-3
"""How far floats may leave [0, 1], by rounding."""


def images_of(X: Any, name: str = "X") -> Any:
    """Images in a form that ``open_source`` opens.

    Args:
        X: A path or a source, which are returned as they are; a list, an array or a column of a table with paths or
            Pillow images; a list of arrays (H W or H W C) and tensors (H W or C H W); or one array N H W C, N C H W or
            N H W. Integers have the range of their files, and floats lie in [0, 1].
        name: What the caller's argument is called, for messages.

    Raises:
        HeadwayError: There are no images, or X or one of its items is nothing of these.
    """
    if isinstance(X, (str, Path, Source)):
        return X
    if isinstance(X, Image.Image):
        raise HeadwayError("array-invalid", f"{name} is one image: put it into a list")
    if isinstance(X, Tensor):
        X = _to_numpy(X, name)
    if hasattr(X, "to_numpy"):  # a column, or a table with one column
        X = _column_of(X, name)
    if isinstance(X, np.ndarray):
        if not _is_column(X):
            return DatasetSource(_channels_last(X, name), name)
        X = list(X.ravel())
    if isinstance(X, (list, tuple)):
        _check_items(X, name)
    elif hasattr(X, "toarray"):
        raise HeadwayError(
            "array-invalid", f"{name} is a sparse matrix ({type(X).__name__}); pass images as an array N H W C"
        )
    return X


def _column_of(table: Any, name: str) -> np.ndarray:
    """The values of a pandas or polars column, or of a table of one column."""
    values = table.to_numpy()
    if values.ndim == 2 and values.shape[1] != 1 and values.dtype.kind not in "biuf":
        names = ", ".join(map(str, table.columns))
        raise HeadwayError(
            "array-invalid", f"{name} is a table of the columns {names}; pass the one column that holds paths or images"
        )
    return np.asarray(values)


def _is_column(X: np.ndarray) -> bool:
    """Whether an array holds N objects or texts, rather than numbers."""
    return X.dtype.kind in "OUST" and (X.ndim == 1 or (X.ndim == 2 and X.shape[1] == 1))


def _channels_last(X: np.ndarray, name: str) -> np.ndarray:
    """N H W C, N C H W or N H W -> N H W C, or N H W as it is. Raises HeadwayError for other arrays."""
    got = f"{' x '.join(map(str, X.shape))} of {X.dtype}"
    message = f"{name} as an array must be N H W C, N C H W or N H W, of integers or floats up to 64 bits, got {got}"
    if X.ndim == 2 and X.dtype.kind in "biuf":
        raise HeadwayError(
            "array-invalid", f"{message}; reshape flattened images with {name}.reshape(-1, height, width, channels)"
        )
    if X.dtype.kind not in "biuf" or X.dtype.itemsize > 8 or X.ndim not in (3, 4) or not X.size:
        raise HeadwayError("array-invalid", message)
    if X.ndim == 3 and X.shape[2] <= MAX_COLOR_CHANNELS:
        raise HeadwayError("array-invalid", f"{message}; that is one image: put it into a list")
    _check_range(X, name)
    if X.ndim == 3:
        return X
    first, last = X.shape[1] <= MAX_COLOR_CHANNELS, X.shape[3] <= MAX_COLOR_CHANNELS
    if not first and not last:  # more channels than colors: images are square, or larger than their channels
        first, last = X.shape[1] < X.shape[3], X.shape[3] < X.shape[1]
    if first == last:
        raise HeadwayError(
            "array-invalid", f"{message}; the channel axis cannot be told from the others: pass a list of arrays H W C"
        )
    return np.moveaxis(X, 1, 3) if first else X  # N H W C


def _check_items(X: Sequence[Any], name: str) -> None:
    """Refuse lists of anything but paths, or Pillow images, arrays and tensors. Raises HeadwayError."""
    if not X:
        raise HeadwayError("array-invalid", f"{name} holds no images; give at least one")
    are_paths = isinstance(X[0], (str, Path))
    for index, item in enumerate(X):
        item_name = f"{name}[{index}]"
        if isinstance(item, (str, Path)) != are_paths:
            raise HeadwayError(
                "array-invalid",
                f"{name} must hold either paths or images; {item_name} is {item!r:.60}, and {name}[0] is {X[0]!r:.60}",
            )
        if isinstance(item, (np.ndarray, Tensor)):
            if item.ndim not in (2, 3):
                raise HeadwayError(
                    "array-invalid", f"{item_name} must be H W or H W C (a tensor: C H W), got {tuple(item.shape)}"
                )
            _check_range(_to_numpy(item, item_name) if isinstance(item, Tensor) else item, item_name)
        elif not isinstance(item, (str, Path, Image.Image)):
            raise HeadwayError("array-invalid", f"{item_name} is {item!r:.60}, which is neither a path nor an image")


def _to_numpy(tensor: Tensor, name: str) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:
        raise HeadwayError("array-invalid", f"{name} is of bfloat16, which NumPy does not know; pass {name}.float()")
    return tensor.numpy(force=True)


def _check_range(values: np.ndarray, name: str) -> None:
    """Refuse floats outside [0, 1], infinities and NaN. Raises HeadwayError."""
    if values.dtype.kind != "f" or not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):  # true for NaN as well
        raise HeadwayError(
            "array-invalid",
            f"floats in {name} must lie in [0, 1], got {low:g} to {high:g}; divide them by 255, or pass uint8"
            if np.isfinite([low, high]).all()
            else f"{name} holds NaN or infinite values; replace them",
        )
