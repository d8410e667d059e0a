"""Open a source of images from a path, a name or an object."""

import contextlib
from pathlib import Path

from headway.data.dataset.sample_stats import compute_sample_stats, set_sample_stats
from headway.data.decoding.pixel_format import pixel_format_of
from headway.data.sources.base import Source, SubsetSource, with_pixel_format
from headway.data.sources.paths import path_errors, regular_file
from headway.data.sources.registry import open_data
from headway.data.sources.table import TABLE_SUFFIXES, attach_labels, group_by_pattern, read_column_names
from headway.errors import HeadwayError
from headway.protocol import Backbone
from headway.utils.notes import note


def open_source(
    data: object,
    labeled: bool | None = False,
    labels: str | Path | None = None,
    *,
    group_by: str = "",
    channels: int = 0,
    value_range: tuple[float, float] | None = None,
    backbone: Backbone | None = None,
) -> Source:
    """Open a source of images.

    Args:
        data: A folder, a tar or brace pattern of tars ('train-{0..4}.tar.gz'), a CSV or Parquet with a column "file",
            one image, or torchvision:NAME; or an object: a ``Source``, a list of paths or of images, an array or tensor
            N C H W, a ``Dataset`` of Hugging Face's ``datasets``, or a torchvision-like data set.
        labeled: True: only the labeled images, which must have at least two classes. None: all images, with their
            labels if they have any. False: all images, without labels.
        labels: A table with the columns file and label that labels the images by name; implies ``labeled``.
        group_by: Groups of images that no split may separate: a column of the table, or a regular expression that is
            searched in the images' names and whose first parentheses match the group.
        channels: C of every image; 0: the most frequent number. If C is given, C equal pages of a TIFF are one image.
        value_range: The values that become 0 and 1; None: measured if the images have more than 8 bits.
        backbone: A trained backbone. The pixel format is then that of its ``input_spec``.

    Raises:
        HeadwayError: The path is missing, there are no images, or the labels are missing or invalid.
    """
    labeled = labeled if labels is None else True
    own_labels = labeled if labels is None else False
    column = _group_column(data if labels is None else labels, group_by)
    source = open_data(data, own_labels, column or "group")
    if labels is not None:
        with path_errors(str(labels)):
            table = regular_file(Path(labels).expanduser())
        source = attach_labels(source, table, column or "group")
    if group_by and not column:
        source = group_by_pattern(source, group_by)
    source = _labeled_subset(source, labels or data) if labeled else source
    if backbone is not None:
        return with_pixel_format(source, pixel_format_of(backbone.input_spec))
    if not channels and not value_range:
        return source
    stats = compute_sample_stats(source, channels, value_range)
    if value_range and 2 * stats.num_over_8_bits <= stats.num_read:
        raise HeadwayError(
            "options-conflict", "--value-range is for images of more than 8 bits, and most of these have 8; omit it"
        )
    converted = SubsetSource(source, range(len(source)), pixel_format=stats.pixel_format)
    set_sample_stats(converted, stats)
    return converted


def open_test_source(data: object, *, group_by: str = "", backbone: Backbone | None = None) -> Source | None:
    """Open a source of test images, of one class or more. Returns None if ``data`` is None.

    Args:
        data: As for ``open_source``; images without a label are dropped later.
        group_by: As for ``open_source``; if it matches none of these images, each is a group of its own.
        backbone: As for ``open_source``.

    Raises:
        HeadwayError: The path is missing or has no images.
    """
    if data is None:
        return None
    if group_by:
        with contextlib.suppress(HeadwayError):  # any other error is raised again below
            return open_source(data, labeled=None, group_by=group_by, backbone=backbone)
    return open_source(data, labeled=None, backbone=backbone)


def _group_column(data: object, group_by: str) -> str:
    """``group_by`` in lower case if ``data`` is a table with that column, else an empty string."""
    if not group_by or not isinstance(data, (str, Path)):
        return ""
    with path_errors(str(data)):
        table = Path(data).expanduser()
        if table.suffix.lower() not in TABLE_SUFFIXES:
            return ""
        columns = read_column_names(regular_file(table))
    return group_by.lower() if group_by.lower() in columns else ""


def _labeled_subset(source: Source, given: object) -> Source:
    """The images that have a label. Raises HeadwayError if they have fewer than two classes."""
    indices = [index for index in range(len(source)) if source.label(index) is not None]
    classes = {source.label(index) for index in indices}
    where = f"'{given}'" if isinstance(given, (str, Path)) else type(given).__name__
    if not classes:
        raise HeadwayError(
            "labels-missing",
            f"no image of {where} has a label; put the images into one folder per class, .cls files into the tar, "
            f"or pass a table with the columns file,label",
        )
    if len(classes) < 2:
        raise HeadwayError(
            "one-class",
            f"all {len(indices)} labeled images of {where} are of one class '{classes.pop()}'; "
            f"a classifier needs at least two",
        )
    if len(indices) == len(source):
        return source
    example = next(index for index in range(len(source)) if source.label(index) is None)
    unlabeled = len(source) - len(indices)
    note(f"{unlabeled:,} of {len(source):,} images have no label and are not used, such as {source.name(example)!r}")
    return SubsetSource(source, indices)
