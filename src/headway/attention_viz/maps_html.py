"""Attention as one HTML page: point at a patch and see what it attends to, in every attention head at once.

The page is self-contained: images as JPEG, weights as levels of 0 to 255 of the maximum of their row, deflated. Its
only script is attention.js.
"""

import base64
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from markupsafe import Markup

from headway.attention_viz.analysis import AttentionHeadImportance, AttentionStatistics, attention_rollout
from headway.attention_viz.attention_hooks import AttentionMaps
from headway.attention_viz.overlay import cell_color, colormap, to_levels
from headway.errors import HeadwayError
from headway.reports.html import data_uri, render_page
from headway.utils.files import to_json

MAX_WEIGHTS = 64_000_000
"""Weights on a page; with more, browsers become slow."""
TEMPLATES = Path(__file__).with_name("templates")


class AttentionImage(NamedTuple):
    """One image with its attention maps.

    Attributes:
        name: Name of its file, without the folder.
        pixels: S S 3, uint8; the patches divide S.
        maps: The weights of a pass with this image alone.
    """

    name: str
    pixels: np.ndarray
    maps: AttentionMaps


class AttentionReport(NamedTuple):
    """The content of a report on attention.

    Attributes:
        title: Contains the name of the network.
        subtitle: A sentence on the network.
        prefix_names: P names of the prefix tokens, "class token", "register 1" ...
        initial_token: The token whose attention is shown at first; None: the mean of all patches.
        images: One or more.
        statistics: Of every attention head.
        statistics_scope: The images over which they are averaged, in words.
        importance: Of every attention head, where labeled images were given.
        predictor: What predicted their classes, in words.
        note: How the report was made.
    """

    title: str
    subtitle: str
    prefix_names: Sequence[str]
    initial_token: int | None
    images: Sequence[AttentionImage]
    statistics: AttentionStatistics
    statistics_scope: str
    importance: AttentionHeadImportance | None
    predictor: str
    note: str


def attention_html(report: AttentionReport) -> str:
    """The page. Raises HeadwayError if it would hold more weights than a browser can handle."""
    maps = [image.maps.weights for image in report.images]
    sizes = [(len(weights) * weights[0].shape[1] + 1) * weights[0].shape[-1] ** 2 for weights in maps]
    if sum(sizes) > MAX_WEIGHTS:
        raise HeadwayError(
            "value-out-of-range",
            f"one page would hold {sum(sizes):,} attention weights, more than {MAX_WEIGHTS:,}: "
            "give fewer images, a smaller --size, or a folder as --out",
        )
    return render_page(
        "maps.html.j2",
        TEMPLATES,
        styles=["maps.css"],
        script="attention.js",
        report=report,
        images=[_image_content(report, number) for number in range(len(report.images))],
        tables=[*_statistics_tables(report), *_importance_table(report)],
        shared=_script_json({"colormap": colormap().ravel().tolist()}),
    )


def _image_content(report: AttentionReport, number: int) -> dict[str, Any]:
    """An image, and the weights from which its page draws one map per attention head."""
    image = report.images[number]
    weights, prefix, (rows, columns) = image.maps
    layers, heads = len(weights), weights[0].shape[1]
    maps = torch.cat([*(layer[0] for layer in weights), attention_rollout(weights)])  # L*h+1 T T
    maps = torch.cat([maps, maps[:, prefix:].mean(1, keepdim=True)], 1)  # L*h+1 T+1 T
    patches = maps[..., prefix:]  # L*h+1 T+1 N
    data = {
        "number": number + 1, "rows": rows, "columns": columns, "prefix": list(report.prefix_names), "layers": layers,
        "heads": heads, "initial": maps.shape[1] - 1 if report.initial_token is None else report.initial_token,
        "levels": _deflate_base64(to_levels(patches)),
        "maximum": _deflate_base64(patches.amax(-1).numpy().astype("<f4")),
        "prefix_share": _deflate_base64(maps[..., :prefix].sum(-1).numpy().astype("<f4")),
    }  # fmt: skip
    return {
        "name": image.name, "source": data_uri(image.pixels), "data": _script_json(data), "rows": rows,
        "columns": columns, "layers": layers, "heads": heads, "mean_query": maps.shape[1] - 1,
    }  # fmt: skip


def _statistics_tables(report: AttentionReport) -> list[dict[str, Any]]:
    tokens = report.images[0].maps.weights[0].shape[-1]
    distance = f"Distance of a patch from what it attends to, averaged over {report.statistics_scope}."
    entropy = (
        f"0: one token gets all attention; {np.log2(tokens):.1f}: all {tokens} tokens get the same. "
        "Each additional bit doubles the number of tokens."
    )
    return [
        _heat_table("Mean attention distance, pixels", distance, report.statistics.distance, "{:.1f}"),
        _heat_table("Entropy, bits", entropy, report.statistics.entropy, "{:.2f}"),
    ]


def _importance_table(report: AttentionReport) -> list[dict[str, Any]]:
    """One table, or none without labeled images."""
    if report.importance is None:
        return []
    drops = report.importance.accuracy_drop
    count = sum(map(len, drops))
    caption = (
        f"Points of accuracy lost where the attention head is ablated. {report.predictor} are correct for "
        f"{report.importance.accuracy:.1f} % of {report.importance.images:,} held-out images with all attention heads. "
        f"Bold where the 95 % interval over images excludes 0; of {count} such intervals, about "
        f"{max(round(count / 20), 1)} would do so by chance."
    )
    significant = [[cell.low > 0 or cell.high < 0 for cell in row] for row in drops]
    means = [[cell.mean for cell in row] for row in drops]
    return [_heat_table("Importance for the downstream task, points", caption, means, "{:+.1f}", significant)]


def _heat_table(
    title: str,
    caption: str,
    rows: Sequence[Sequence[float]],
    number_format: str,
    significant: Sequence[Sequence[bool]] | None = None,
) -> dict[str, Any]:
    """Numbers, layers by attention heads, on backgrounds whose color shows the value."""
    low, high = min(map(min, rows)), max(map(max, rows))
    marks = significant or [[False] * len(row) for row in rows]
    cells = [
        [
            {"text": number_format.format(value), "color": cell_color(value, low, high), "is_significant": mark}
            for value, mark in zip(*row, strict=True)
        ]
        for row in zip(rows, marks, strict=True)
    ]
    return {"title": title, "caption": caption, "rows": cells}


def _deflate_base64(numbers: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(numbers).tobytes(), 9)).decode()


def _script_json(content: object) -> Markup:
    """JSON inside a script element: < is escaped, so no file name can end the element."""
    return Markup(to_json(content).replace("<", "\\u003c"))
