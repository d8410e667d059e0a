"""``check``: inspects a data set before training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.api.result import OPTIONAL, Result
from headway.utils.progress import ProgressCallback, stage_progress

if TYPE_CHECKING:
    from headway.data.sources.base import DataLike


@dataclass(frozen=True, repr=False)
class CheckResult(Result):
    """What was found. The lists of names are complete."""

    data: str
    """The data set as it was named."""
    files: int
    """Files, those that are ignored included."""
    read: int
    """Images that can be read."""
    unreadable: int
    """Images that cannot be read."""
    skipped: list[dict[str, str]]
    """Unreadable images, then ignored files: file, reason."""
    notes: list[dict[str, str]]
    """Images that are read, but not as they are: file, note."""
    formats: dict[str, int]
    """Images by file format."""
    sizes: dict[str, dict[str, float]]
    """Minimum, median and maximum of width, height and short_side, in pixels."""
    aspect: dict[str, float]
    """The same of longer side / shorter side."""
    channels: dict[str, int]
    """Images by number of channels."""
    bits: dict[str, int]
    """Images by bits per channel."""
    pixel_format: dict[str, Any]
    """Channels and value_range in which they were read."""
    mean: list[float]
    """Mean of each channel, in [0, 1]."""
    std: list[float]
    """Standard deviation of each channel."""
    orientation: dict[str, int]
    """Images by EXIF orientation other than 1."""
    tiny: list[str]
    """Very small images."""
    extreme_aspect: list[str]
    """Images of which the central square shows little."""
    nearly_uniform: list[str]
    """Images of nearly one color."""
    classes: dict[str, int]
    """Images by class; empty without labels."""
    groups: int
    """Groups of images."""
    exact_duplicates: list[list[str]]
    """Images that are equal in every pixel."""
    near_duplicates: list[list[str]]
    """Images that look alike."""
    label_conflicts: list[list[str]]
    """Equal images with different labels."""
    pretrain_storage: str
    """How a run with default options stores each image."""
    findings: list[str]
    """What a person should look at, in sentences."""
    out: str | None
    """The page; None: none was asked for."""
    test: dict[str, Any] | None = field(default=None, metadata=OPTIONAL)
    """The same counts of the test set."""
    leakage: dict[str, Any] | None = field(default=None, metadata=OPTIONAL)
    """Test images that are also in the data: exact, near, groups."""


def check(
    data: DataLike,
    *,
    test: DataLike | None = None,
    out: str | Path | None = None,
    thumbnails: bool = True,
    channels: int = 0,
    progress: ProgressCallback | None = None,
) -> CheckResult:
    """Check images before training: formats and sizes, unreadable files, duplicates, leakage into the test set.

    Exit code 0: no findings; 1: findings; 2: no readable image.

    Example: headway check photos --test photos-to-test-on --out check.html

    Args:
        data: A folder, a tar or brace pattern of tars ('train-{0..4}.tar.gz'), a CSV with a column "file", one image.
        test: Images of a test set: none of them should be among the data.
        out: The HTML page to write; it must not exist.
        thumbnails: Whether the page shows images.
        channels: Channels of the data set; 0: as most images have. With N, N equal pages of a TIFF are one image.
        progress: Called with the progress of each stage; none: silent.
    """
    from headway.data.decoding.pixel_format import PixelFormat
    from headway.data.open import open_source
    from headway.errors import HeadwayError
    from headway.reports.data_check import (
        find_leakage,
        findings,
        scan_dataset,
        storage_note,
        summarize,
        try_sample_stats,
    )
    from headway.reports.data_check_html import MAX_THUMBNAILS, check_html
    from headway.utils.files import refuse_existing, write_text

    page = refuse_existing(Path(out)) if out is not None else None
    if page and page.suffix != ".html":
        raise HeadwayError("output-format", f"--out '{out}' does not end in .html, the only format that check writes")
    source = open_source(data, labeled=None)
    stats = try_sample_stats(source, channels)
    pixel_format = stats.pixel_format if stats else PixelFormat(channels or 3)
    num_thumbnails = MAX_THUMBNAILS if page and thumbnails else 0
    scanned = scan_dataset(data, source, pixel_format, num_thumbnails, stage_progress(progress, "checking"))
    facts, scanned_test = summarize(scanned), None
    if test is not None:
        test_source, report = open_source(test, labeled=None), stage_progress(progress, "checking the test set")
        scanned_test = scan_dataset(test, test_source, pixel_format, 0, report)
        facts |= {"test": summarize(scanned_test), "leakage": find_leakage(scanned, scanned_test)}
    facts["pretrain_storage"] = storage_note(stats)
    found = [*findings(facts), *([stats.note] if stats and stats.note else [])]
    result = CheckResult(**facts, findings=found, out=None if page is None else str(page))
    if page:
        write_text(page, check_html(result.to_dict(), scanned, scanned_test, thumbnails))
    return result
