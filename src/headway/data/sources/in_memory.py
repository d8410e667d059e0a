"""Sources over decoded images: torchvision data sets, other indexable data sets, arrays and tensors."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from headway.data.decoding.pillow import pillow_to_native
from headway.data.decoding.pixel_format import RGB, PixelFormat, convert
from headway.data.sources.base import LabeledSource, SourceKind
from headway.data.sources.paths import path_kind
from headway.errors import HeadwayError, UnreadableImageError, unknown_name_error
from headway.utils.locks import file_lock

TORCHVISION_PREFIX = "torchvision:"
"""Prefix of torchvision's data sets: torchvision:CIFAR10, torchvision:CIFAR10:test."""
SPLIT_KWARGS = {
    "train": ({"train": True}, {"split": "train"}, {"split": "trainval"}, {"image_set": "train"}, {}),
    "test": ({"train": False}, {"split": "test"}, {"split": "val"}, {"image_set": "val"}),
}
"""Keyword arguments by which torchvision's classes select a split; the first that a class accepts are used."""


class DatasetSource(LabeledSource):
    """A source over an indexable object whose items are images, or tuples of an image and targets.

    Args:
        dataset: An object with ``len`` and ``[]``. An image is a Pillow image, a tensor C H W or an array H W C.
        name_prefix: An image's name is this prefix and its index.
        labels: One label per image; None: no labels.

    Raises:
        HeadwayError: The number of labels is not the number of images.
    """

    def __init__(self, dataset: Any, name_prefix: str, labels: Sequence[str | None] | None = None):
        if labels is not None and len(labels) != len(dataset):
            raise HeadwayError("array-invalid", f"{len(dataset)} images need as many labels, got {len(labels)}")
        super().__init__(labels)
        self.dataset, self.name_prefix = dataset, name_prefix

    def __len__(self) -> int:
        return len(self.dataset)

    def image(self, index: int) -> Tensor:
        """The image, C H W. Raises UnreadableImageError for an item that is not an image."""
        item = self.dataset[index]
        return to_image_tensor(item[0] if isinstance(item, (tuple, list)) else item)

    def read(self, index: int) -> bytes:
        """The image's pixels as bytes. Decoded images are read by ``image`` instead."""
        return self.image(index).numpy().tobytes()

    def name(self, index: int) -> str:
        """PREFIX/INDEX."""
        return f"{self.name_prefix}/{index:08d}"


def to_image_tensor(item: Any) -> Tensor:
    """Convert a Pillow image, a tensor or an array to C H W. Raises UnreadableImageError for anything else."""
    if isinstance(item, Image.Image):
        native = pillow_to_native(item)
        return convert(native, RGB)[0] if native.has_alpha else _to_chw(native.values)
    if isinstance(item, np.ndarray) and item.ndim in (2, 3) and item.dtype.kind in "buif":
        return _to_chw(item if item.ndim == 3 else item[..., None])
    if isinstance(item, Tensor) and item.ndim in (2, 3):
        return item if item.ndim == 3 else item[None]  # C H W
    raise UnreadableImageError(f"not an image but {type(item).__name__}")


def _to_chw(values: np.ndarray) -> Tensor:
    """H W C -> C H W, for arrays of any strides and byte order, read-only ones included."""
    return torch.from_numpy(np.require(values, values.dtype.newbyteorder("="), ["C", "W"])).permute(2, 0, 1)


def open_dataset_object(data: Any, labeled: bool) -> DatasetSource:
    """Open a torchvision-like data set. Labels are used only if the object lists them without decoding images."""
    return DatasetSource(data, type(data).__name__, _dataset_labels(data) if labeled else None)


def _dataset_labels(data: Any) -> list[str | None] | None:
    """Each image's class, by name or number (None: a negative number); None if the targets are not classes."""
    targets = next((getattr(data, name) for name in ("targets", "labels", "_labels") if hasattr(data, name)), None)
    if targets is None or len(targets) != len(data):
        return None
    if all(isinstance(label, str) for label in targets):
        return [label or None for label in targets]
    try:
        numbers = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError):  # boxes, captions
        return None
    if numbers.is_floating_point() or numbers.numel() != len(data):
        return None
    values, classes = numbers.flatten().tolist(), getattr(data, "classes", ())
    named = max(values, default=0) < len(classes)
    return [None if value < 0 else str(classes[value]) if named else str(value) for value in values]


def open_torchvision(spec: str, labeled: bool) -> DatasetSource:
    """Open one of torchvision's data sets by name. torchvision downloads it and verifies its checksum.

    This is the only place where pickles are read, by torchvision: some of these data sets are pickles, and torchvision
    compares their checksums before it opens them. The files are stored in the folder HEADWAY_DATA, by default in the
    user's cache. A lock makes processes that open the same data set wait until the first has downloaded it.

    Args:
        spec: torchvision:NAME or torchvision:NAME:test; without a split, the training split.
        labeled: Use the labels.

    Raises:
        HeadwayError: The data set does not exist or cannot be downloaded.
    """
    from torchvision import datasets

    name, _, split = spec.removeprefix(TORCHVISION_PREFIX).partition(":")
    known = [word for word in datasets.__all__ if isinstance(getattr(datasets, word), type)]
    if name not in known:
        raise unknown_name_error("data set of torchvision", name, known)
    split = split or "train"
    if split not in SPLIT_KWARGS:
        raise unknown_name_error("split of a data set", split, SPLIT_KWARGS)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    root = Path(os.environ.get("HEADWAY_DATA") or Path(cache) / "headway" / "data")
    root.mkdir(parents=True, exist_ok=True)
    for kwargs in SPLIT_KWARGS[split]:
        try:
            with file_lock(root / f".{name}.lock"):
                return open_dataset_object(getattr(datasets, name)(str(root / name), download=True, **kwargs), labeled)
        except (TypeError, ValueError):  # the class takes other keyword arguments
            continue
        except Exception as error:  # no network, no disk space, a wrong checksum
            raise HeadwayError(
                "data-not-found", f"cannot fetch {spec} into '{root}': {' '.join(str(error).split())[:300]}"
            ) from error
    raise HeadwayError("data-not-found", f"torchvision's {name} has no split '{split}' that can be fetched by name")


class ArraySource(DatasetSource):
    """A source over an array of decoded images.

    Args:
        images: N C H W, integers or floats; a NumPy array or a tensor. Images of 8 bits are uint8.
        labels: N class names; None: no labels.
        pixel_format: The format of an image store's images, which are used unchanged; None: images are converted.

    Raises:
        HeadwayError: The shape or dtype is another one, or the number of labels is not N.
    """

    def __init__(
        self, images: Tensor | np.ndarray, labels: Sequence[str] | None = None, pixel_format: PixelFormat | None = None
    ):
        got = f"{tuple(images.shape)} of {images.dtype}"
        message = f"images as an array must be N x C x H x W of integers or floats, got {got}"
        try:
            self.images: Tensor = torch.as_tensor(images)
        except TypeError as error:
            raise HeadwayError("array-invalid", message) from error
        if self.images.ndim != 4 or 0 in self.images.shape[1:] or self.images.is_complex():
            raise HeadwayError("array-invalid", message)
        if self.images.shape[1] > 4 and self.images.shape[3] <= 4:
            raise HeadwayError(
                "array-invalid", f"images as an array must be N x C x H x W, got {got}; move the channels to the front"
            )
        super().__init__(self.images, "", labels)
        self.pixel_format, self.decoded_format = pixel_format, pixel_format

    def name(self, index: int) -> str:
        """The image's index."""
        return f"{index:08d}"


def _is_indexable(data: Any) -> bool:
    has_items = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    return has_items and not isinstance(data, (dict, str, bytes))


ARRAY = SourceKind(
    lambda data: isinstance(data, (np.ndarray, Tensor)), lambda data, labeled, group_column: ArraySource(data)
)
INDEXABLE = SourceKind(
    _is_indexable, lambda data, labeled, group_column: open_dataset_object(data, labeled is not False)
)
TORCHVISION = path_kind(
    lambda path: str(path).startswith(TORCHVISION_PREFIX),
    lambda path, labeled, group_column: open_torchvision(str(path), labeled is not False),
)
