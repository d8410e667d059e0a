"""``headway check``: inspects a data set before training."""

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from headway.backbones.input_size import choose_view_size, storage_side
from headway.cli.console import print_line, progress_bar
from headway.data.dataset.sample_stats import SampleStats, compute_sample_stats
from headway.data.decoding.pixel_format import MAX_CHANNELS, PixelFormat
from headway.data.inspection.scan import scan
from headway.data.open import open_source
from headway.data.sources.base import DataLike, Source
from headway.errors import HeadwayError
from headway.pretext import find_recipe
from headway.reports.data_check import ScannedDataset, escape_unprintable, find_leakage, findings, summarize
from headway.reports.data_check_html import MAX_THUMBNAILS, THUMBNAIL_SIDE, check_html
from headway.utils.files import refuse_existing, write_text

MAX_NAMES_PRINTED = 5
"""File names printed of each kind of finding; --json and the page hold more."""


def check(
    data: Positional[DataLike],
    *,
    test: DataLike | None = None,
    out: str | Path | None = None,
    thumbnails: bool = True,
    channels: int = 0,
) -> dict[str, Any]:
    """Check images before training: formats and sizes, unreadable files, duplicates, leakage into the test set.

    Exit code 0: no findings; 1: findings; 2: no readable image.

    Example: headway check photos --test photos-to-test-on --out check.html

    Args:
        data: A folder, a tar or brace pattern of tars ('train-{0..4}.tar.gz'), a CSV with a column "file", one image.
        test: Images of a test set: none of them should be among the data.
        out: The HTML page to write; it must not exist.
        thumbnails: Whether the page shows images.
        channels: Channels of the data set; 0: as most images have. With N, N equal pages of a TIFF are one image.

    Returns:
        files, read, skipped (file, reason), notes (file, note), findings, and counts of formats, sizes, channels, ...
    """
    page = refuse_existing(Path(out)) if out is not None else None
    if page and page.suffix != ".html":
        raise HeadwayError(f"--out '{out}' does not end in .html, the only format that check writes")
    source = open_source(data, labeled=None)
    stats = _try_sample_stats(source, channels)
    pixel_format = stats.pixel_format if stats else PixelFormat(channels or 3)
    scanned = _scan("checking", data, source, pixel_format, MAX_THUMBNAILS if page and thumbnails else 0)
    result = summarize(scanned)
    scanned_test = None
    if test is not None:
        scanned_test = _scan("checking the test set", test, open_source(test, labeled=None), pixel_format, 0)
        result |= {"test": summarize(scanned_test), "leakage": find_leakage(scanned, scanned_test)}
    result |= {
        "pretrain_storage": _storage_note(stats),
        "findings": findings(result),
        "out": None if page is None else str(page),
    }
    if page:
        write_text(page, check_html(result, scanned, scanned_test, thumbnails))
    return result


def exit_code(result: dict[str, Any]) -> int:
    """0: no findings; 1: findings; 2: no readable image."""
    return 2 if not result["read"] else 1 if result["findings"] else 0


def print_result(result: dict[str, Any]) -> None:
    """Print the counts, then the findings with example files."""
    for part, title in ((result, ""), (result.get("test"), "test set: ")):
        if part:
            for line in summary(part):
                print_line(title + line)
    if result["pretrain_storage"]:
        print_line(result["pretrain_storage"])
    print_line("")
    for sentence in result["findings"]:
        print_line(f"- {escape_unprintable(sentence)}")
    for title, names in _examples(result):
        print_line(f"\n{title}")
        for name in names[:MAX_NAMES_PRINTED]:
            print_line(f"  {name}")
        if len(names) > MAX_NAMES_PRINTED:
            hint = "" if result["out"] else " (--json names them all)"
            print_line(f"  ... and {len(names) - MAX_NAMES_PRINTED:,} more{hint}")
    if not result["findings"]:
        print_line("No findings.")
    if result["out"]:
        print_line(f"\nThe page is {result['out']}")


def summary(data_facts: dict[str, Any]) -> list[str]:
    """The counts of one data set, in a few lines."""
    ignored = len(data_facts["skipped"]) - data_facts["unreadable"]
    lines = [f"{data_facts['read']:,} images read of {data_facts['files']:,} files in {data_facts['data']}; "
             f"{data_facts['unreadable']:,} unreadable, {ignored:,} ignored"]  # fmt: skip
    if not data_facts["read"]:
        return lines
    width, height = data_facts["sizes"]["width"], data_facts["sizes"]["height"]
    formats = ", ".join(f"{name} {count:,}" for name, count in data_facts["formats"].items())
    lines.append(
        f"{formats}; {width['min']} to {width['max']} pixels wide (median {width['median']:g}), "
        f"{height['min']} to {height['max']} high (median {height['median']:g})"
    )
    channels = ", ".join(f"{count:,} of {number}" for number, count in data_facts["channels"].items())
    bits = ", ".join(f"{count:,} of {number}" for number, count in data_facts["bits"].items())
    mean, std = (" ".join(f"{value:.3f}" for value in data_facts[name]) for name in ("mean", "std"))
    lines.append(f"channels: {channels}; bits per channel: {bits}; mean {mean}, standard deviation {std} (white is 1)")
    if data_facts["orientation"]:
        lines.append(f"rotated or mirrored by their EXIF orientation: {sum(data_facts['orientation'].values()):,}")
    if data_facts["classes"]:
        counts = data_facts["classes"].values()
        lines.append(f"{len(counts)} classes of {min(counts):,} to {max(counts):,} images")
    if data_facts["groups"]:
        lines.append(f"{data_facts['groups']:,} groups; a split keeps each group on one side")
    return lines


def _try_sample_stats(source: Source, channels: int) -> SampleStats | None:
    """Median size and pixel format of a sample; None where no image in it can be read (the scan then says why)."""
    try:
        return compute_sample_stats(source, channels)
    except HeadwayError:
        if not 0 <= channels <= MAX_CHANNELS:
            raise
        return None


def _scan(
    description: str, data: DataLike, source: Source, pixel_format: PixelFormat, num_thumbnails: int
) -> ScannedDataset:
    count = min(num_thumbnails, len(source))
    indices = [i * len(source) // count for i in range(count)]
    with progress_bar(description) as progress:
        found = scan(source, pixel_format, thumbnail_indices=indices, thumbnail_side=THUMBNAIL_SIDE, progress=progress)
    name = str(data) if isinstance(data, (str, Path)) else type(data).__name__
    return ScannedDataset(name, source, pixel_format, found)


def _storage_note(stats: SampleStats | None) -> str:
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


def _examples(result: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """File names of each kind of finding."""

    def escaped(key: str) -> list[str]:
        return list(map(escape_unprintable, result[key]))

    def with_text(rows: list[dict[str, str]], key: str) -> list[str]:
        return [f"{escape_unprintable(row['file'])}: {row[key]}" for row in rows]

    unreadable, ignored = result["skipped"][: result["unreadable"]], result["skipped"][result["unreadable"] :]
    leakage = result.get("leakage") or {"exact": [], "near": []}
    exact = [" = ".join(map(escape_unprintable, family)) for family in result["exact_duplicates"]]
    near = [" ~ ".join(map(escape_unprintable, family)) for family in result["near_duplicates"]]
    in_both = [f"{escape_unprintable(row['test'])} {sign} {escape_unprintable(row['data'])}"
               for sign, rows in (("=", leakage["exact"]), ("~", leakage["near"])) for row in rows]  # fmt: skip
    found = [
        ("unreadable:", with_text(unreadable, "reason")), ("ignored:", with_text(ignored, "reason")),
        ("exact duplicates (equal in every pixel):", exact), ("near-duplicates:", near),
        ("in the test set and in the data:", in_both), ("very small:", escaped("tiny")),
        ("extreme aspect ratio:", escaped("extreme_aspect")), ("nearly uniform color:", escaped("nearly_uniform")),
        ("notes:", with_text(result["notes"], "note")),
    ]  # fmt: skip
    return [(title, names) for title, names in found if names]
