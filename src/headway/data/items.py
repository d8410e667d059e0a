"""Pictures that some object gives by number: a data set of torchvision's, or anything that is indexed like one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from headway.data.form import RGB, bring
from headway.data.pillow import pillow_pixels
from headway.data.source import Unreadable, in_order
from headway.errors import HeadwayError, unknown
from headway.files import alone

PREFIX = "torchvision:"
"""What the names of torchvision's data sets begin with: torchvision:CIFAR10, torchvision:CIFAR10:test."""
SPLITS = {
    "train": ({"train": True}, {"split": "train"}, {"split": "trainval"}, {"image_set": "train"}, {}),
    "test": ({"train": False}, {"split": "test"}, {"split": "val"}, {"image_set": "val"}),
}
"""How its classes say which part of them is wanted; the first that a class understands is taken."""


class Items:
    """A source over an object whose items are pictures, or pairs of picture and class.

    Args:
        things: ``len`` and ``[]``; a picture is Pillow's, a tensor C H W, or an array H W C.
        name: What the pictures are called by, before their number.
        labels: One a picture; none: unlabelled.

    Raises:
        HeadwayError: Another number of labels.
    """

    def __init__(self, things: Any, name: str, labels: Sequence[str | None] | None = None):
        if labels is not None and len(labels) != len(things):
            raise HeadwayError(f"{len(things)} pictures need as many labels, got {len(labels)}")
        self.things, self.prefix, self.labels = things, name, labels
        self.classes = None if labels is None else in_order(labels)

    def __len__(self) -> int:
        return len(self.things)

    def image(self, index: int) -> Tensor:
        """The picture, C H W. Raises Unreadable for an item that is none."""
        item = self.things[index]
        return as_pixels(item[0] if isinstance(item, (tuple, list)) else item)

    def read(self, index: int) -> bytes:
        """Its pixels; ``image`` is what is used."""
        return self.image(index).numpy().tobytes()

    def name(self, index: int) -> str:
        """NAME/NUMBER."""
        return f"{self.prefix}/{index:08d}"

    def label(self, index: int) -> str | None:
        """The label given; None without labels."""
        return None if self.labels is None else self.labels[index]


def as_pixels(thing: Any) -> Tensor:
    """C H W of Pillow's picture, a tensor or an array. Raises Unreadable for anything else."""
    if isinstance(thing, Image.Image):
        raw = pillow_pixels(thing)
        if raw.opacity:
            return bring(raw, RGB)[0]
        return _planes(raw.values)
    if isinstance(thing, np.ndarray) and thing.ndim in (2, 3) and thing.dtype.kind in "buif":
        return _planes(thing if thing.ndim == 3 else thing[..., None])
    if isinstance(thing, Tensor) and thing.ndim in (2, 3):
        return thing if thing.ndim == 3 else thing[None]  # C H W
    raise Unreadable(f"no picture but {type(thing).__name__}")


def _planes(values: np.ndarray) -> Tensor:
    """H W C -> C H W, whatever the strides, the order of bytes, or the right to write."""
    return torch.from_numpy(np.require(values, values.dtype.newbyteorder("="), ["C", "W"])).permute(2, 0, 1)


def open_items(data: Any, labelled: bool) -> Items:
    """A data set object of torchvision's kind as a source, with its labels where it tells them without being read."""
    return Items(data, type(data).__name__, _labels_of(data) if labelled else None)


def _labels_of(data: Any) -> list[str | None] | None:
    """One class a picture, by name or by number, below 0 where it has none; None for any other kind of targets."""
    given = next((getattr(data, name) for name in ("targets", "labels", "_labels") if hasattr(data, name)), None)
    if given is None or len(given) != len(data):
        return None
    if all(isinstance(label, str) for label in given):
        return [label or None for label in given]
    try:
        targets = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):  # boxes, captions
        return None
    if targets.is_floating_point() or targets.numel() != len(data):
        return None
    numbers, classes = targets.flatten().tolist(), getattr(data, "classes", ())
    named = max(numbers, default=0) < len(classes)
    return [None if number < 0 else str(classes[number]) if named else str(number) for number in numbers]


def open_torchvision(text: str, labelled: bool) -> Items:
    """One of torchvision's data sets by name, fetched and checked by torchvision itself.

    The one place where a library's pickles are read: some of these sets are pickles, and torchvision compares their
    checksums before it opens them. They lie in HEADWAY_DATA, by default in the user's cache. Processes that want
    the same set come one after the other: the first fetches it, the others find it there.

    Args:
        text: torchvision:NAME or torchvision:NAME:test; without a part it is the one to train on.
        labelled: Take its labels.

    Raises:
        HeadwayError: No such set, or it cannot be fetched.
    """
    from torchvision import datasets

    name, _, part = text.removeprefix(PREFIX).partition(":")
    known = [word for word in datasets.__all__ if isinstance(getattr(datasets, word), type)]
    if name not in known:
        raise unknown("data set of torchvision", name, known)
    part = part or "train"
    if part not in SPLITS:
        raise unknown("part of a data set", part, SPLITS)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    root = Path(os.environ.get("HEADWAY_DATA") or Path(cache) / "headway" / "data")
    root.mkdir(parents=True, exist_ok=True)
    for words in SPLITS[part]:
        try:
            with alone(root / f".{name}.lock"):
                return open_items(getattr(datasets, name)(str(root / name), download=True, **words), labelled)
        except (TypeError, ValueError):  # it takes other words
            continue
        except Exception as error:  # no network, no room, a checksum that differs
            raise HeadwayError(f"cannot fetch {text} into '{root}': {' '.join(str(error).split())[:300]}") from error
    raise HeadwayError(f"torchvision's {name} has no part '{part}' that can be fetched by name")
