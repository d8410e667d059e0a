"""Attention as one HTML page: point at a patch and see what it attends to, in every attention head at once.

The page is self-contained: images as JPEG, weights as levels of 0 to 255 of the maximum of their row, deflated. Its
only script is attention.js.
"""

import base64
import html
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from headway.attention_viz.analysis import AttentionHeadImportance, AttentionStatistics, attention_rollout
from headway.attention_viz.attention_hooks import AttentionMaps
from headway.attention_viz.overlay import cell_color, colormap, to_levels
from headway.errors import HeadwayError
from headway.reports.html import data_uri, html_document
from headway.utils.files import to_json

MAX_WEIGHTS = 64_000_000
"""Weights on a page; with more, browsers become slow."""
STYLE = """
.image { display: grid; grid-template-columns: minmax(16rem, 26rem) minmax(0, max-content); gap: 1.5rem;
  margin-bottom: 3rem }
@media (max-width: 50rem) { .image { grid-template-columns: 1fr } }
.image h2 { grid-column: 1 / -1; margin: 0; font-size: 1.15rem; overflow-wrap: anywhere }
.large { position: relative; aspect-ratio: 1; cursor: crosshair; touch-action: none; background-size: 100% 100%;
  background-image: var(--image) }
.large canvas, .map canvas { position: absolute; inset: 0; width: 100%; height: 100%; image-rendering: pixelated }
.cursor { position: absolute; border: 2px solid #fff; outline: 1px solid #14141a; pointer-events: none }
.pinned .cursor { border-width: 3px }
.status { min-height: 3em; margin: .75rem 0 }
button { font: inherit; color: inherit }
.token { padding: .2rem .7rem; margin-right: .4rem; border: 1px solid var(--line); border-radius: 6px;
  background: var(--card) }
.token[aria-pressed=true] { border-color: currentColor }
.maps { display: grid; gap: 4px; align-content: start; font-size: .8rem; color: var(--faint) }
.maps span { align-self: center; text-align: center }
.maps .layer { text-align: right; padding-right: .3rem }
.maps .over { grid-column: 2 / -1 }
th.over { text-align: center }
.map { position: relative; aspect-ratio: 1; min-width: 0; padding: 0; border: 0; cursor: pointer;
  background-size: 100% 100%; background-image: var(--image) }
.map[aria-pressed=true] { outline: 3px solid #2f7de1; outline-offset: -1px; z-index: 1 }
.tables { display: flex; flex-wrap: wrap; gap: 2rem; margin-bottom: 1.5rem }
.tables figure { max-width: 100%; overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
caption, .tables figcaption { text-align: left }
td, th { padding: .25rem .5rem; text-align: right; font-weight: normal }
th { color: var(--faint) }
td { color: #202124 }
td.significant { font-weight: 700 }
"""


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
        raise HeadwayError(f"one page would hold {sum(sizes):,} attention weights, more than {MAX_WEIGHTS:,}: "
                           "give fewer images, a smaller --size, or a folder as --out")  # fmt: skip
    images = "\n".join(_image_section(report, number) for number in range(len(report.images)))
    shared = _script_json({"colormap": colormap().ravel().tolist()})
    return html_document(
        report.title,
        f"""<header>
<h1>{html.escape(report.title)}</h1>
<p class="subtitle">{html.escape(report.subtitle)}</p>
<p>Each small image is one attention head. It shows what one patch of the large image attends to: bright is much, dark
is little, and each map is scaled to its own maximum. <b>Point at a patch</b> of the large image to select it; click to
keep the selection, and again to release it; arrow keys work too. Click on a small image to see it large.</p>
<noscript><p><b>Scripts are switched off, so no map is drawn here.</b> The only script is part of this file and fetches
nothing; <code>headway attend --out FOLDER</code> draws the maps as PNG files.</p></noscript>
</header>
<script type="application/json" id="shared">{shared}</script>
{images}
<h2>Statistics of the attention heads</h2>
<div class="tables">
{_statistics_tables(report)}
{_importance_table(report)}
</div>
<footer><p>{html.escape(report.note)}</p></footer>
""",
        STYLE,
        Path(__file__).with_name("attention.js").read_text(encoding="utf-8"),
    )


def _image_section(report: AttentionReport, number: int) -> str:
    """The large image, and one map per attention head."""
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
    queries = [*enumerate(report.prefix_names), (maps.shape[1] - 1, "mean of all patches")]
    tokens = "".join(f'<button class="token" data-query="{i}">{html.escape(name)}</button>' for i, name in queries)
    cells = ['<span></span><span class="over">attention head</span><span></span>']
    cells += [f"<span>{head + 1}</span>" for head in range(heads)]
    for layer in range(layers):
        cells.append(f'<span class="layer">layer {layer + 1}</span>')
        cells += [_map_button(f"layer {layer + 1}, attention head {head + 1}") for head in range(heads)]
    cells += ['<span class="layer">rollout</span>', _map_button("rollout through all layers")]
    return f"""<section class="image" style="--image: url({data_uri(image.pixels)})">
<script type="application/json">{_script_json(data)}</script>
<h2>{html.escape(image.name)}</h2>
<div>
<div class="large" tabindex="0" role="application" aria-label="{html.escape(image.name)}: point at a patch"><canvas>
</canvas><div class="cursor" style="width: {100 / columns}%; height: {100 / rows}%"></div></div>
<p class="status" aria-live="polite"></p>
<p>Or select: {tokens}</p>
</div>
<div class="maps" style="grid-template-columns: auto repeat({heads}, minmax(1.5rem, {max(4, min(7, 42 // heads))}rem))">
{"".join(cells)}
</div>
</section>"""


def _map_button(name: str) -> str:
    return f'<button class="map" title="{name}" aria-label="{name}"><canvas></canvas></button>'


def _statistics_tables(report: AttentionReport) -> str:
    tokens = report.images[0].maps.weights[0].shape[-1]
    distance = f"Distance of a patch from what it attends to, averaged over {report.statistics_scope}."
    entropy = (
        f"0: one token gets all attention; {np.log2(tokens):.1f}: all {tokens} tokens get the same. "
        "Each additional bit doubles the number of tokens."
    )
    return _heat_table("Mean attention distance, pixels", distance, report.statistics.distance, "{:.1f}") + _heat_table(
        "Entropy, bits", entropy, report.statistics.entropy, "{:.2f}"
    )


def _importance_table(report: AttentionReport) -> str:
    if report.importance is None:
        return ""
    drops = report.importance.accuracy_drop
    count = sum(map(len, drops))
    caption = (
        f"Points of accuracy lost where the attention head is ablated. {report.predictor} are correct for "
        f"{report.importance.accuracy:.1f} % of {report.importance.images:,} held-out images with all attention heads. "
        f"Bold where the 95 % interval over images excludes 0; of {count} such intervals, about "
        f"{max(round(count / 20), 1)} would do so by chance."
    )
    significant = [[cell.low > 0 or cell.high < 0 for cell in row] for row in drops]
    return _heat_table(
        "Importance for the downstream task, points",
        caption,
        [[cell.mean for cell in row] for row in drops],
        "{:+.1f}",
        significant,
    )


def _heat_table(
    title: str,
    caption: str,
    rows: Sequence[Sequence[float]],
    number_format: str,
    significant: Sequence[Sequence[bool]] | None = None,
) -> str:
    """Numbers, layers by attention heads, on backgrounds whose color shows the value."""
    low, high = min(map(min, rows)), max(map(max, rows))
    numbers = "".join(f"<th>{number + 1}</th>" for number in range(len(rows[0])))
    top = f'<tr><th></th><th class="over" colspan="{len(rows[0])}">attention head</th></tr><tr><th></th>{numbers}</tr>'
    body = []
    for layer, row in enumerate(rows):
        cells = []
        for head, value in enumerate(row):
            mark = ' class="significant"' if significant and significant[layer][head] else ""
            cells.append(
                f'<td{mark} style="background: rgb{cell_color(value, low, high)}">{number_format.format(value)}</td>'
            )
        body.append(f"<tr><th>layer {layer + 1}</th>{''.join(cells)}</tr>")
    table = f"<table>{top}{''.join(body)}</table>"
    text = html.escape(caption)
    return f'<figure><div class="title"><b>{title}</b></div>{table}<figcaption>{text}</figcaption></figure>'


def _deflate_base64(numbers: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(numbers).tobytes(), 9)).decode()


def _script_json(content: object) -> str:
    """JSON inside a script element: < is escaped, so no file name can end the element."""
    return to_json(content).replace("<", "\\u003c")
