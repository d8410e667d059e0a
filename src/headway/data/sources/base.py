"""The ``Source`` protocol: a sequence of encoded images that are read one at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

Remarks = list[tuple[str, str]]
"""(name, remark) of images: why each was skipped, or what a user should know of it."""


@runtime_checkable
class Source(Protocol):
    """Encoded images with names and optional labels. Any object with these five members is a source.

    A source may have these optional members as well:

    - ``image(index)``: the decoded image (C H W, any numeric dtype). It is used instead of decoding ``read(index)``.
    - ``group(index)``: the image's group, a name. Images of one group (one animal, one camera) stay on one side of
      every split.
    - ``version_key()``: a text that changes whenever the data may have changed. Without it, no cache is written.
    - ``ignored``: (name, reason) of each file found among the images that is not an image.
    - ``pixel_format``: the ``PixelFormat`` to which the images are to be converted.
    - ``decoded_format``: the ``PixelFormat`` that the output of ``image(index)`` already has.

    Attributes:
        classes: The names of the K classes; None if the source has no labels.
    """

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the K classes; None if the source has no labels."""
        ...

    def __len__(self) -> int:
        """Number of images, unreadable ones included."""
        ...

    def read(self, index: int) -> bytes:
        """The encoded image. Called from several threads at a time. Raises UnreadableImageError or OSError."""
        ...

    def name(self, index: int) -> str:
        """The image's name, with slashes, relative to the data."""
        ...

    def label(self, index: int) -> str | None:
        """The name of the image's class, one of ``classes``; None if the image has no label."""
        ...


DataLike = str | Path | Source
"""What ``open_source`` opens: the name of a data set, its path, or a source."""


def group_of(source: Source, index: int) -> str | None:
    """The image's group; None if the source has no groups."""
    group = getattr(source, "group", None)
    return group(index) if group else None


def version_key_of(source: Source) -> str | None:
    """A text that changes whenever the source's data may have changed; None if the source cannot detect changes."""
    version_key = getattr(source, "version_key", None)
    return version_key() if version_key else None


def ignored_of(source: Source) -> Sequence[tuple[str, str]]:
    """(name, reason) of each file that the source found among the images and that is not an image."""
    return getattr(source, "ignored", ())


def sorted_classes(labels: Sequence[str | None]) -> tuple[str, ...]:
    """The distinct labels, sorted. If all are whole numbers they are sorted by value, so that 10 follows 9."""
    names = {label for label in labels if label is not None}
    return tuple(
        sorted(names, key=(lambda name: (int(name), name)) if all(name.isdecimal() for name in names) else None)
    )


class LabeledSource:
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


class SubsetSource:
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
        pixel_format: object = None,
    ):
        self.source, self.indices, self.labels, self.groups = source, indices, labels, groups
        self.pixel_format, self.ignored = pixel_format or getattr(source, "pixel_format", None), ignored_of(source)
        self.decoded_format = getattr(source, "decoded_format", None)
        self.classes = source.classes if labels is None else sorted_classes(labels)
        get_image = getattr(source, "image", None)
        if get_image:
            self.image = lambda index: get_image(indices[index])

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> bytes:
        """The encoded image."""
        return self.source.read(self.indices[index])

    def name(self, index: int) -> str:
        """The image's name in the source."""
        return self.source.name(self.indices[index])

    def label(self, index: int) -> str | None:
        """The subset's label of the image, else the source's."""
        return self.source.label(self.indices[index]) if self.labels is None else self.labels[index]

    def group(self, index: int) -> str | None:
        """The subset's group of the image, else the source's."""
        return group_of(self.source, self.indices[index]) if self.groups is None else self.groups[index]

    def version_key(self) -> str | None:
        """The source's version key. Caches distinguish subsets by the images' names."""
        return version_key_of(self.source)


def with_pixel_format(source: Source, pixel_format: object) -> SubsetSource:
    """All images of a source, to be converted to the given ``PixelFormat``, such as that of the training data."""
    return SubsetSource(source, range(len(source)), pixel_format=pixel_format)
