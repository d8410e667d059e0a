"""The check of a data set as one HTML page. Names are escaped, and images are encoded anew, without metadata."""

import html
from typing import Any

import numpy as np
from torch import Tensor

from headway.data.dataset.decode_all import load_image
from headway.data.inspection.near_duplicates import equal_groups
from headway.data.inspection.scan import thumbnail
from headway.errors import UnreadableImageError
from headway.reports.data_check import ScannedDataset, escape_unprintable, near_duplicate_groups
from headway.reports.html import data_uri, html_document, to_rgb

MAX_THUMBNAILS, THUMBNAIL_SIDE = 120, 112
"""Images on the contact sheet, and their longer side in pixels."""
MAX_GROUPS, MAX_GROUP_IMAGES = 12, 6
"""Groups of duplicates that are shown, and images of each."""
MAX_TABLE_ROWS = 200
"""More rows are only counted."""
OUTSIDE_BRIGHTNESS = 0.35
"""Factor on the brightness outside the central square."""
STYLE = """
main { display: block } h2 { margin: 2.5rem 0 .75rem; font-size: 1.25rem }
table { border-collapse: collapse; font-size: .9rem } td, th { padding: .2rem 1.5rem .2rem 0; text-align: left;
  vertical-align: top; overflow-wrap: anywhere } th { color: var(--faint); font-weight: normal; white-space: nowrap }
.findings li { margin: .3rem 0 } .clean { color: var(--right) }
.sheet { display: flex; flex-wrap: wrap; gap: .6rem; align-items: flex-end }
.sheet figure { width: 112px } .sheet img { margin: 0;
  outline: 1px solid var(--line) }
.sheet figcaption { min-height: 0; margin-top: .2rem; overflow: hidden; font-size: .7rem; text-overflow: ellipsis;
  white-space: nowrap }
.pairs { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin-bottom: 1rem }
.group { margin-bottom: .75rem; padding-bottom: .75rem; border-bottom: 1px solid var(--line) }
.bar { height: .8rem; min-width: 1px; border-radius: 2px; background: var(--faint) }
.bars td:last-child { width: 24rem }
.more { color: var(--faint) }
"""


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
    found, shown, storage = answer["findings"], test_dataset if thumbnails else None, answer["pretrain_storage"]
    note = _escaped(f"{storage[0].upper()}{storage[1:]}.") if storage else ""
    listed = "".join(f"<li>{_escaped(sentence)}</li>" for sentence in found)
    head = f'<ul class="findings">{listed}</ul>' if found else '<p class="clean">No findings.</p>'
    parts = [
        f'<header><h1>{_escaped(answer["data"])}</h1><p class="subtitle">{answer["read"]:,} images read of '
        f"{answer['files']:,} files</p>{head}</header><main>",
        _section("Images", _summary_table(answer)),
        _section("Images of the test set", _summary_table(answer["test"])) if test_dataset else "",
        _section("Classes", _class_bars(answer["classes"])),
    ]
    if thumbnails:
        parts += [
            _section(
                "Contact sheet",
                _thumbnails(dataset),
                "An even subsample of the data. Training keeps the bright square.",
            ),
            _section("Equal in every pixel", _group_figures(dataset, equal_groups(dataset.scan.content_hashes))),
            _section("Near-duplicates", _group_figures(dataset, near_duplicate_groups(dataset.scan))),
        ]
    leaked = answer.get("leakage") or {"exact": [], "near": []}
    lists = {} if thumbnails else {"Equal in every pixel": "exact_duplicates", "Near-duplicates": "near_duplicates"}
    lists |= {"Very small": "tiny", "Extreme aspect ratios": "extreme_aspect", "Nearly uniform color": "nearly_uniform"}
    parts += [
        _section(
            "In the test set and in the data, equal in every pixel", _leaked_pairs(dataset, shown, leaked["exact"])
        ),
        _section("Near-duplicates between the test set and the data", _leaked_pairs(dataset, shown, leaked["near"])),
        _section("Unreadable", _table(answer["skipped"][: answer["unreadable"]])),
        _section("Ignored", _table(answer["skipped"][answer["unreadable"] :])),
        *(_section(title, _name_list(answer[key])) for title, key in lists.items()),
        _section("Notes", _table(answer["notes"])),
        f"</main><footer><p>{note}</p></footer>",
    ]
    return html_document(f"{escape_unprintable(answer['data'])}: data check", "\n".join(parts), STYLE)


def _escaped(text: object) -> str:
    return html.escape(escape_unprintable(str(text)))


def _section(title: str, body: str, note: str = "") -> str:
    """A section; an empty string where the body is empty."""
    more = f'<p class="more">{html.escape(note)}</p>' if note else ""
    return f"<section><h2>{html.escape(title)}</h2>{more}{body}</section>" if body else ""


def _summary_table(summary: dict[str, Any]) -> str:
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
    cells = (
        f"<tr><th>{html.escape(name)}</th><td>{_escaped(value)}</td></tr>" for name, value in rows.items() if value
    )
    return f"<table>{''.join(cells)}</table>" if summary["read"] else ""


def _class_bars(classes: dict[str, int]) -> str:
    largest = max(classes.values(), default=0) or 1
    rows = [
        f"<tr><th>{_escaped(name)}</th><td>{count:,}</td>"
        f'<td><div class="bar" style="width: {100 * count / largest:.1f}%"></div></td></tr>'
        for name, count in list(classes.items())[:MAX_TABLE_ROWS]
    ]
    return f'<table class="bars">{"".join(rows)}</table>{_count_omitted(len(classes))}' if rows else ""


def _table(rows: list[dict[str, str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    lines = ["".join(f"<td>{_escaped(value)}</td>" for value in row.values()) for row in rows[:MAX_TABLE_ROWS]]
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>{_count_omitted(len(rows))}"


def _name_list(names: list[str] | list[list[str]]) -> str:
    lines = [_escaped(name if isinstance(name, str) else " = ".join(name)) for name in names[:MAX_TABLE_ROWS]]
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>{_count_omitted(len(names))}" if lines else ""


def _count_omitted(count: int, shown: int = MAX_TABLE_ROWS) -> str:
    return f'<p class="more">and {count - shown:,} more; --json names them all</p>' if count > shown else ""


def _thumbnails(dataset: ScannedDataset) -> str:
    names = dataset.names
    figures = [
        _figure(names[i], image) for i, image in zip(dataset.scan.thumbnail_rows, dataset.scan.thumbnails, strict=True)
    ]
    return f'<div class="sheet">{"".join(figures)}</div>' if figures else ""


def _group_figures(dataset: ScannedDataset, groups: list[list[int]]) -> str:
    """The first groups, with their images loaded again."""
    rows = []
    for group in groups[:MAX_GROUPS]:
        figures = "".join(_reloaded_figure(dataset, i) for i in group[:MAX_GROUP_IMAGES])
        omitted = len(group) - MAX_GROUP_IMAGES
        more = f'<p class="more">and {omitted:,} more</p>' if omitted > 0 else ""
        rows.append(f'<div class="group"><div class="sheet">{figures}</div>{more}</div>')
    return "".join(rows) + _count_omitted(len(groups), MAX_GROUPS) if rows else ""


def _leaked_pairs(dataset: ScannedDataset, test_dataset: ScannedDataset | None, rows: list[dict[str, str]]) -> str:
    """Images of the test set beside those of the data, where thumbnails are shown, and the names of all."""
    if test_dataset is None or not rows:
        return _table(rows)
    names, test_names = dataset.names, test_dataset.names
    pairs = []
    for row in rows[:MAX_GROUPS]:
        figure = _reloaded_figure(test_dataset, test_names.index(row["test"]))
        other = _reloaded_figure(dataset, names.index(row["data"]))
        pairs.append(f'<div class="sheet pair">{figure}{other}</div>')
    return f'<div class="pairs">{"".join(pairs)}</div>{_table(rows)}'


def _reloaded_figure(dataset: ScannedDataset, position: int) -> str:
    name = dataset.source.name(dataset.scan.source_indices[position])
    try:
        image = load_image(dataset.source, dataset.scan.source_indices[position], dataset.pixel_format).pixels
    except UnreadableImageError:  # removed since the scan
        return ""
    return _figure(name, thumbnail(image, THUMBNAIL_SIDE))


def _figure(name: str, image: Tensor) -> str:
    pixels = _highlight_center_crop(to_rgb(image))  # h w 3
    safe = _escaped(name)
    height, width = pixels.shape[:2]
    scale = max(THUMBNAIL_SIDE // max(height, width), 1)  # by an integer factor, without interpolation
    return (
        f'<figure><img width="{scale * width}" height="{scale * height}" alt="" src="{data_uri(pixels)}">'
        f'<figcaption title="{safe}">{safe}</figcaption></figure>'
    )


def _highlight_center_crop(pixels: np.ndarray) -> np.ndarray:
    """The image with its central square, which training keeps, bright and the rest dimmed."""
    height, width = pixels.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    dimmed = (pixels * OUTSIDE_BRIGHTNESS).astype(np.uint8)
    dimmed[top : top + short, left : left + short] = pixels[top : top + short, left : left + short]
    return dimmed
