"""The check of a data set as one HTML page. Names are escaped, and images are encoded anew, without metadata."""

import contextlib
from typing import Any

import numpy as np
from torch import Tensor

from headway.data.dataset.decode_all import load_image
from headway.data.inspection.near_duplicates import equal_groups
from headway.data.inspection.scan import thumbnail
from headway.errors import UnreadableImageError
from headway.reports.data_check import ScannedDataset, near_duplicate_groups
from headway.reports.html import data_uri, render_page, to_rgb

MAX_THUMBNAILS, THUMBNAIL_SIDE = 120, 112
"""Images on the contact sheet, and their longer side in pixels."""
MAX_GROUPS, MAX_GROUP_IMAGES = 12, 6
"""Groups of duplicates that are shown, and images of each."""
MAX_TABLE_ROWS = 200
"""More rows are only counted."""
OUTSIDE_BRIGHTNESS = 0.35
"""Factor on the brightness outside the central square."""


def check_html(
    answer: dict[str, Any], dataset: ScannedDataset, test_dataset: ScannedDataset | None, thumbnails: bool
) -> str:
    """The page.

    Args:
        answer: The result of ``headway check``.
        dataset: The data.
        test_dataset: The test set, if any.
        thumbnails: Whether images are shown.
    """
    leakage = answer.get("leakage") or {"exact": [], "near": []}
    images, leaked_images = None, dict[str, Any](exact=[], near=[])
    if thumbnails:
        hashes, near = dataset.scan.content_hashes, near_duplicate_groups(dataset.scan)
        images = {
            "subsample": _thumbnails(dataset), "equal": _image_groups(dataset, equal_groups(hashes)),
            "near": _image_groups(dataset, near),
        }  # fmt: skip
        if test_dataset:
            leaked_images = {key: _leaked_pairs(dataset, test_dataset, rows) for key, rows in leakage.items()}
    return render_page(
        "check.html.j2",
        styles=["check.css"],
        answer=answer,
        summary=_summary(answer),
        test_summary=_summary(answer["test"]) if test_dataset else {},
        leakage=leakage,
        images=images,
        leaked_images=leaked_images,
        max_rows=MAX_TABLE_ROWS,
        max_groups=MAX_GROUPS,
    )


def _summary(summary: dict[str, Any]) -> dict[str, Any]:
    """Rows of the table of a data set: name and value; none without images."""

    def counted(name: str) -> str:
        return ", ".join(f"{count:,} x {key}" for key, count in summary[name].items())

    def extent(values: dict[str, float]) -> str:
        return f"{values['min']:g} to {values['max']:g}, median {values['median']:g}" if values else ""

    value_range = summary["pixel_format"]["value_range"]
    mean, std = (", ".join(f"{value:.3f}" for value in summary[name]) for name in ("mean", "std"))
    rows = {
        "formats": counted("formats"), "width in pixels": extent(summary["sizes"]["width"]),
        "height in pixels": extent(summary["sizes"]["height"]), "longer side / shorter side": extent(summary["aspect"]),
        "channels": counted("channels"), "bits per channel": counted("bits"),
        "values that become 0 and 1": "{:g} and {:g}".format(*value_range) if value_range else "",
        "mean of each channel": mean, "standard deviation of each channel": std,
        "turned upright by EXIF orientation": counted("orientation"), "groups": summary["groups"] or "",
    }  # fmt: skip
    return rows if summary["read"] else {}


def _thumbnails(dataset: ScannedDataset) -> list[dict[str, Any]]:
    names, rows = dataset.names, dataset.scan.thumbnail_rows
    return [_figure(names[i], image) for i, image in zip(rows, dataset.scan.thumbnails, strict=True)]


def _image_groups(dataset: ScannedDataset, groups: list[list[int]]) -> dict[str, Any]:
    """The first groups, with their images loaded again, and the number of all."""
    shown = [
        {"images": _reloaded_figures(dataset, group[:MAX_GROUP_IMAGES]), "omitted": len(group) - MAX_GROUP_IMAGES}
        for group in groups[:MAX_GROUPS]
    ]
    return {"shown": shown, "count": len(groups)}


def _leaked_pairs(
    dataset: ScannedDataset, test_dataset: ScannedDataset, rows: list[dict[str, str]]
) -> list[list[dict[str, Any]]]:
    """Images of the test set, each with that of the data."""
    names, test_names = dataset.names, test_dataset.names
    return [
        _reloaded_figures(test_dataset, [test_names.index(row["test"])])
        + _reloaded_figures(dataset, [names.index(row["data"])])
        for row in rows[:MAX_GROUPS]
    ]


def _reloaded_figures(dataset: ScannedDataset, positions: list[int]) -> list[dict[str, Any]]:
    """The images that still exist."""
    figures = []
    for index in (dataset.scan.source_indices[position] for position in positions):
        with contextlib.suppress(UnreadableImageError):  # removed since the scan
            image = load_image(dataset.source, index, dataset.pixel_format).pixels
            figures.append(_figure(dataset.source.name(index), thumbnail(image, THUMBNAIL_SIDE)))
    return figures


def _figure(name: str, image: Tensor) -> dict[str, Any]:
    pixels = _highlight_center_crop(to_rgb(image))  # h w 3
    height, width = pixels.shape[:2]
    scale = max(THUMBNAIL_SIDE // max(height, width), 1)  # by an integer factor, without interpolation
    return {"name": name, "width": scale * width, "height": scale * height, "source": data_uri(pixels)}


def _highlight_center_crop(pixels: np.ndarray) -> np.ndarray:
    """The image with its central square, which training keeps, bright and the rest dimmed."""
    height, width = pixels.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    dimmed = (pixels * OUTSIDE_BRIGHTNESS).astype(np.uint8)
    dimmed[top : top + short, left : left + short] = pixels[top : top + short, left : left + short]
    return dimmed
