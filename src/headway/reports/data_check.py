"""The result of checking a data set: a summary as plain data, and findings as sentences."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headway.backbones.input_size import choose_view_size, storage_side
from headway.data.dataset.sample_stats import SampleStats, compute_sample_stats
from headway.data.decoding.pixel_format import MAX_CHANNELS, PixelFormat
from headway.data.inspection.near_duplicates import duplicate_groups, equal_groups, near_duplicate_pairs
from headway.data.inspection.scan import ScanResult, scan
from headway.data.sources.base import DataLike, Source
from headway.errors import HeadwayError
from headway.pretext import find_recipe
from headway.utils.progress import Progress

THUMBNAIL_SIDE = 112
"""Side in pixels of the thumbnails on the page."""
MIN_SHORT_SIDE = 16
"""Short side in pixels; smaller images count as very small."""
MAX_ASPECT_RATIO = 4.0
"""Longer side / shorter side; above it the central square shows less than a quarter of the image."""
MIN_CLASS_SIZE, MAX_CLASS_IMBALANCE = 5, 10.0
"""Images in a class, below which it counts as small; largest class / smallest class, above which classes are uneven."""
EMPTY_FOLDER = "a folder without images"


class ScannedDataset(NamedTuple):
    """A data set and the result of scanning it.

    Attributes:
        data: The data set as the user named it.
        source: The images.
        pixel_format: Channels and value range in which they were read.
        scan: The result.
    """

    data: str
    source: Source
    pixel_format: PixelFormat
    scan: ScanResult

    @property
    def names(self) -> list[str]:
        """Names of the readable images, in order."""
        return [self.source.name(index) for index in self.scan.source_indices]

    @property
    def labels(self) -> list[str | None]:
        """Labels of the readable images, in order; empty for unlabeled data."""
        return [self.source.label(index) for index in self.scan.source_indices] if self.source.classes else []


def scan_dataset(
    data: DataLike, source: Source, pixel_format: PixelFormat, num_thumbnails: int, progress: Progress
) -> ScannedDataset:
    """Read every image of a data set.

    Args:
        data: The data set as the user named it.
        source: The images.
        pixel_format: In which they are read.
        num_thumbnails: Of how many, evenly spaced, a thumbnail is kept.
        progress: Called with the number of images that were read and the number of all of them.
    """
    count = min(num_thumbnails, len(source))
    indices = [i * len(source) // count for i in range(count)]
    found = scan(source, pixel_format, thumbnail_indices=indices, thumbnail_side=THUMBNAIL_SIDE, progress=progress)
    name = str(data) if isinstance(data, (str, Path)) else type(data).__name__
    return ScannedDataset(name, source, pixel_format, found)


def try_sample_stats(source: Source, channels: int) -> SampleStats | None:
    """Median size and pixel format of a sample; None where no image in it can be read (the scan then says why).

    Raises:
        HeadwayError: ``channels`` is out of range.
    """
    try:
        return compute_sample_stats(source, channels)
    except HeadwayError:
        if not 0 <= channels <= MAX_CHANNELS:
            raise
        return None


def storage_note(stats: SampleStats | None) -> str:
    """How a run with default options stores each image."""
    if stats is None:
        return ""
    try:
        size, _ = choose_view_size(stats.median_short_side)
    except HeadwayError as error:
        return f"pretraining with default options would refuse these images: {error}"
    side = storage_side(stats.median_short_side, size, find_recipe("simclr").storage_scale)
    return (
        f"pretraining keeps the central square of each, stored at {side} x {side} pixels for views of {size} x {size}; "
        f"--size changes it"
    )


def summarize(dataset: ScannedDataset) -> dict[str, Any]:
    """All counts and statistics as plain data; lists of names are complete."""
    source, scan, names = dataset.source, dataset.scan, dataset.names
    ignored = source.ignored
    skipped = [*scan.skipped, *((name, reason) for name, reason in ignored)]
    short, long = np.minimum(scan.heights, scan.widths), np.maximum(scan.heights, scan.widths)
    exact = equal_groups(scan.content_hashes)

    def named(indices: Iterable[int]) -> list[str]:
        return [names[i] for i in indices]

    return {
        "data": dataset.data,
        "files": len(source) + len(ignored),
        "read": len(scan.source_indices),
        "unreadable": len(scan.skipped),
        "skipped": [{"file": name, "reason": reason} for name, reason in skipped],
        "notes": [{"file": name, "note": note} for name, note in scan.notes],
        "formats": _counts(scan.file_formats),
        "sizes": {
            "width": _min_median_max(scan.widths),
            "height": _min_median_max(scan.heights),
            "short_side": _min_median_max(short),
        },
        "aspect": _min_median_max(np.round(long / np.maximum(short, 1), 2)),
        "channels": _counts(scan.channels.tolist()),
        "bits": _counts(scan.bit_depths.tolist()),
        "pixel_format": {"channels": dataset.pixel_format.channels, "value_range": dataset.pixel_format.value_range},
        "mean": [round(value, 4) for value in scan.mean],
        "std": [round(value, 4) for value in scan.std],
        "orientation": _counts(value for value in scan.orientations.tolist() if value > 1),
        "tiny": named(np.flatnonzero(short < MIN_SHORT_SIDE)),
        "extreme_aspect": named(np.flatnonzero(long > MAX_ASPECT_RATIO * short)),
        "nearly_uniform": named(np.flatnonzero(scan.perceptual_hashes == 0)),
        "classes": _class_counts(dataset),
        "groups": len({source.group(index) for index in scan.source_indices} - {None}),
        "exact_duplicates": [named(group) for group in exact],
        "near_duplicates": [named(group) for group in near_duplicate_groups(scan)],
        "label_conflicts": [named(group) for group in exact if len(_labels_at(dataset, group)) > 1],
    }


def find_leakage(train: ScannedDataset, test: ScannedDataset) -> dict[str, Any]:
    """Test images that are also in the training data: equal in every pixel, near-duplicates, or of the same group."""
    count = len(train.scan.content_hashes)
    first = {content: i for i, content in reversed([*enumerate(train.scan.content_hashes.tolist())])}
    exact = {i: first[c] for i, c in enumerate(test.scan.content_hashes.tolist()) if c in first}
    pairs = near_duplicate_pairs(np.concatenate([train.scan.perceptual_hashes, test.scan.perceptual_hashes]))
    near: dict[int, int] = {}
    for group in duplicate_groups(pairs, count + len(test.scan.content_hashes)):
        in_train = [i for i in group if i < count]
        for i in group:
            if in_train and i >= count and i - count not in exact:
                near[i - count] = in_train[0]
    groups = {train.source.group(i) for i in train.scan.source_indices} & {
        test.source.group(i) for i in test.scan.source_indices
    }
    return {
        "exact": [{"test": test.names[t], "data": train.names[d]} for t, d in exact.items()],
        "near": [{"test": test.names[t], "data": train.names[d]} for t, d in sorted(near.items())],
        "groups": sorted(group for group in groups if group is not None),
    }


def near_duplicate_groups(scan: ScanResult) -> list[list[int]]:
    """Groups of near-duplicates, with one image per content: exact copies are reported separately."""
    first = np.sort(np.unique(scan.content_hashes, return_index=True)[1])
    families = duplicate_groups(near_duplicate_pairs(scan.perceptual_hashes[first]), len(first))
    return [first[family].tolist() for family in families]


def findings(summary: dict[str, Any]) -> list[str]:
    """Problems in the data, as sentences; an empty list means that none was found."""
    lines = []

    def report(what: str, count: int, more: str = "") -> None:
        if count:
            lines.append(f"{what}: {count:,}{more}")

    report("unreadable", summary["unreadable"], f" of {summary['files']:,} files")
    report("folders without images", sum(row["reason"] == EMPTY_FOLDER for row in summary["skipped"]))
    report("copies of other images, equal in every pixel", _count_redundant(summary["exact_duplicates"]))
    report("equal images in different classes", len(summary["label_conflicts"]))
    report("near-duplicates of other images", _count_redundant(summary["near_duplicates"]))
    report(f"very small, below {MIN_SHORT_SIDE} pixels", len(summary["tiny"]))
    report(f"over {MAX_ASPECT_RATIO:g} times as long as wide, most of it cut away", len(summary["extreme_aspect"]))
    report("nearly uniform color", len(summary["nearly_uniform"]))
    classes = summary["classes"]
    if classes:
        small = [name for name, count in classes.items() if count < MIN_CLASS_SIZE]
        report(f"classes of fewer than {MIN_CLASS_SIZE} images", len(small), f" ({_first_names(small)})")
        largest, smallest = max(classes.values()), min(classes.values())
        if smallest and largest > MAX_CLASS_IMBALANCE * smallest:
            lines.append(f"uneven classes: the largest has {largest / smallest:.0f} times the images of the smallest")
    leaked = summary.get("leakage")
    if leaked:
        test = summary["test"]
        report("test images that are among the data, equal in every pixel", len(leaked["exact"]))
        report("test images that are near-duplicates of the data", len(leaked["near"]))
        report("groups in both data and test set", len(leaked["groups"]), f" ({_first_names(leaked['groups'])})")
        unknown = sorted(set(test["classes"]) - set(classes)) if classes else []
        report("classes of the test set that the data do not have", len(unknown), f" ({_first_names(unknown)})")
        report("unreadable in the test set", test["unreadable"], f" of {test['files']:,} files")
    return lines


def escape_unprintable(name: str) -> str:
    """A name safe to print anywhere: control characters and undecodable bytes become escapes."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)


def _first_names(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _count_redundant(groups: list[list[str]]) -> int:
    """Images that could be removed with no content lost."""
    return sum(len(group) - 1 for group in groups)


def _class_counts(dataset: ScannedDataset) -> dict[str, int]:
    """Readable images of every class, in the order of classes; empty for fewer than two classes."""
    counts = Counter(label for label in dataset.labels if label is not None)
    classes = dataset.source.classes or ()
    return {name: counts[name] for name in classes} if len(classes) > 1 else {}


def _labels_at(dataset: ScannedDataset, positions: list[int]) -> set[str | None]:
    source, indices = dataset.source, dataset.scan.source_indices
    return {source.label(indices[i]) for i in positions} - {None} if source.classes else set()


def _counts(values: Any) -> dict[str, int]:
    return {str(value): count for value, count in Counter(values).most_common()}


def _min_median_max(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    return {"min": values.min().item(), "median": float(np.median(values)), "max": values.max().item()}
