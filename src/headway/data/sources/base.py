"""``Source``, the base class of all sources of images, and ``SourceKind``, a way to open one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor  # worker processes that draw images do not import torch

    from headway.data.decoding.pixel_format import PixelFormat

Remarks = list[tuple[str, str]]
"""(name, remark) of images: why each was skipped, or what a user should know of it."""


class Source(ABC):
    """Images with names and optional labels, which are read one at a time.

    A source defines ``__len__``, ``read`` and ``name``; everything else has a default.

    Attributes:
        classes: The names of the K classes; None if the source has no labels.
        ignored: (name, reason) of each file found among the images that is not an image.
        pixel_format: The format to which the images are to be converted; None: the one that most images have.
        decoded_format: The format that the output of ``image`` already has; None: it is to be converted.
    """

    classes: tuple[str, ...] | None = None
    ignored: Sequence[tuple[str, str]] = ()
    pixel_format: PixelFormat | None = None
    decoded_format: PixelFormat | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Number of images, unreadable ones included."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """The encoded image. Called from several threads at a time. Raises UnreadableImageError or OSError."""

    @abstractmethod
    def name(self, index: int) -> str:
        """The image's name, with slashes, relative to the data."""

    def image(self, index: int) -> Tensor | None:
        """The decoded image (C H W, any numeric dtype); None: ``read`` gives the image, and it is to be decoded."""
        return None

    def label(self, index: int) -> str | None:
        """The name of the image's class, one of ``classes``; None if the image has no label."""
        return None

    def group(self, index: int) -> str | None:
        """The image's group, a name; None if it has none.

        Images of one group (one animal, one camera) stay on one side of every split.
        """
        return None

    def version_key(self) -> str | None:
        """A text that changes whenever the data may have changed. None: it is not known, and no cache is written."""
        return None


DataLike = str | Path | Source
"""What ``open_source`` opens: the name of a data set, its path, or a source."""


class SourceKind(NamedTuple):
    """A way to open data as a source. The list ``SOURCES`` (headway/data/sources/registry.py) has all of them.

    Attributes:
        can_open: Whether this kind opens the data: a text, a path, or any object.
        open: Opens the data. Its arguments are the data, whether to read the labels (True: they are required; None:
            where there are any; False: not), and the name of a table's column of groups. Raises HeadwayError.
        title: What a kind of file is called in the error for a path that no kind can open; empty: it is not listed.
    """

    can_open: Callable[[Any], bool]
    open: Callable[[Any, bool | None, str], Source]
    title: str = ""


def sorted_classes(labels: Sequence[str | None]) -> tuple[str, ...]:
    """The distinct labels, sorted. If all are whole numbers they are sorted by value, so that 10 follows 9."""
    names = {label for label in labels if label is not None}
    return tuple(
        sorted(names, key=(lambda name: (int(name), name)) if all(name.isdecimal() for name in names) else None)
    )


class LabeledSource(Source):
    """The part that sources share which list their labels. ``labels`` has one label per image; None: no labels."""

    def __init__(self, labels: Sequence[str | None] | None):
        self.labels, self.classes = labels, None if labels is None else sorted_classes(labels)

    def label(self, index: int) -> str | None:
        """The image's label; None without labels."""
        return None if self.labels is None else self.labels[index]


class NamedSource(LabeledSource):
    """The same for sources that list their names too."""

    def __init__(self, names: Sequence[str], labels: Sequence[str | None] | None):
        super().__init__(labels)
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """The image's name, relative to the data."""
        return self.names[index]


class SubsetSource(Source):
    """A subset of a source's images, optionally with other labels, groups or pixel format.

    Args:
        source: The images.
        indices: Indices of the subset's images in the source, in order.
        labels: One label per image of the subset; None: the source's labels.
        groups: One group per image of the subset; None: the source's groups.
        pixel_format: A ``PixelFormat``; None: the source's.
    """

    def __init__(
        self,
        source: Source,
        indices: Sequence[int],
        labels: Sequence[str] | None = None,
        groups: Sequence[str | None] | None = None,
        pixel_format: PixelFormat | None = None,
    ):
        self.source, self.indices, self.labels, self.groups = source, indices, labels, groups
        self.pixel_format, self.decoded_format = pixel_format or source.pixel_format, source.decoded_format
        self.classes, self.ignored = source.classes if labels is None else sorted_classes(labels), source.ignored

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> bytes:
        """The encoded image."""
        return self.source.read(self.indices[index])

    def image(self, index: int) -> Tensor | None:
        """The decoded image, where the source has it."""
        return self.source.image(self.indices[index])

    def name(self, index: int) -> str:
        """The image's name in the source."""
        return self.source.name(self.indices[index])

    def label(self, index: int) -> str | None:
        """The subset's label of the image, else the source's."""
        return self.source.label(self.indices[index]) if self.labels is None else self.labels[index]

    def group(self, index: int) -> str | None:
        """The subset's group of the image, else the source's."""
        return self.source.group(self.indices[index]) if self.groups is None else self.groups[index]

    def version_key(self) -> str | None:
        """The source's version key. Caches distinguish subsets by the images' names."""
        return self.source.version_key()


def with_pixel_format(source: Source, pixel_format: PixelFormat) -> SubsetSource:
    """All images of a source, to be converted to the given ``PixelFormat``, such as that of the training data."""
    return SubsetSource(source, range(len(source)), pixel_format=pixel_format)
