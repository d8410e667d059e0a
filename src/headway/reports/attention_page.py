"""Attention as one HTML page: point at a patch and see what it attends to, in every attention head at once.

The page holds everything: pictures as JPEG made from pixels, weights as levels of 0 to 255 of the largest of their row,
deflated. Its only script stands beside this file.
"""

import base64
import html
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from headway.errors import HeadwayError
from headway.files import to_json
from headway.measure.attention import Importance, Profile, rollout
from headway.measure.listen import Look
from headway.reports.overlay import colours, heat, levels
from headway.reports.page import data_uri, document

LARGEST = 64_000_000
"""Weights on a page beyond which a browser labours."""
STYLE = """
.picture { display: grid; grid-template-columns: minmax(16rem, 26rem) minmax(0, max-content); gap: 1.5rem;
  margin-bottom: 3rem }
@media (max-width: 50rem) { .picture { grid-template-columns: 1fr } }
.picture h2 { grid-column: 1 / -1; margin: 0; font-size: 1.15rem; overflow-wrap: anywhere }
.large { position: relative; aspect-ratio: 1; cursor: crosshair; touch-action: none; background-size: 100% 100%;
  background-image: var(--picture) }
.large canvas, .map canvas { position: absolute; inset: 0; width: 100%; height: 100%; image-rendering: pixelated }
.cursor { position: absolute; border: 2px solid #fff; outline: 1px solid #14141a; pointer-events: none }
.pinned .cursor { border-width: 3px }
.said { min-height: 3em; margin: .75rem 0 }
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
  background-size: 100% 100%; background-image: var(--picture) }
.map[aria-pressed=true] { outline: 3px solid #2f7de1; outline-offset: -1px; z-index: 1 }
.tables { display: flex; flex-wrap: wrap; gap: 2rem; margin-bottom: 1.5rem }
.tables figure { max-width: 100%; overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
caption, .tables figcaption { text-align: left }
td, th { padding: .25rem .5rem; text-align: right; font-weight: normal }
th { color: var(--faint) }
td { color: #202124 }
td.sure { font-weight: 700 }
"""


class Pictured(NamedTuple):
    """One picture that was looked at.

    Attributes:
        name: Of its file, without the folder.
        pixels: S S 3, uint8; the patches divide S.
        seen: The weights of a pass of this picture alone.
    """

    name: str
    pixels: np.ndarray
    seen: Look


class Attended(NamedTuple):
    """All that a person is shown.

    Attributes:
        title: Names the network.
        claim: What it is, in a sentence.
        tokens: P names of the prefix tokens, "class token", "register 1" ...
        start: The token whose attention is shown at first; None: the mean of all patches.
        pictures: One or more.
        profile: Of every attention head.
        profiled: Over which pictures, in words.
        importance: Of every attention head, where labelled pictures were given.
        recogniser: What recognised them, in words.
        note: How it was made.
    """

    title: str
    claim: str
    tokens: Sequence[str]
    start: int | None
    pictures: Sequence[Pictured]
    profile: Profile
    profiled: str
    importance: Importance | None
    recogniser: str
    note: str


def write_attention_page(shown: Attended) -> str:
    """The page. Raises HeadwayError where there are more weights than a browser can take."""
    sizes = [(len(p.seen.weights) * p.seen.weights[0].shape[1] + 1) * p.seen.weights[0].shape[-1] ** 2
             for p in shown.pictures]  # fmt: skip
    if sum(sizes) > LARGEST:
        raise HeadwayError(f"one page would hold {sum(sizes):,} attention weights, more than {LARGEST:,}: "
                           "give fewer pictures, a smaller --size, or a folder as --out")  # fmt: skip
    pictures = "\n".join(_picture(shown, number) for number in range(len(shown.pictures)))
    head = f'<script type="application/json" id="shared">{_json({"colours": colours().ravel().tolist()})}</script>'
    first = shown.pictures[0].seen.grid
    return document(
        shown.title,
        f"""<header>
<h1>{html.escape(shown.title)}</h1>
<p class="claim">{html.escape(shown.claim)}</p>
<p>Each small picture is one attention head. It shows where one patch of the large picture looks: bright is much, dark
is little, and each map is scaled to its own brightest patch. <b>Point at a patch</b> of the large picture to ask it;
click to hold it, and again to let go; arrow keys work too. Click on a small picture to see it large.</p>
<noscript><p><b>Scripts are switched off, so no map is drawn here.</b> The page's one script is part of this file and
fetches nothing; <code>headway attend --out FOLDER</code> draws the maps as PNG files.</p></noscript>
</header>
{head}
{pictures}
<h2>What kind of looking each attention head does</h2>
<div class="tables">
{_profile(shown, first)}
{_importance(shown)}
</div>
<footer><p>{html.escape(shown.note)}</p></footer>
""",
        STYLE,
        Path(__file__).with_name("attention.js").read_text(encoding="utf-8"),
    )


def _picture(shown: Attended, number: int) -> str:
    """The large picture, and a map an attention head."""
    picture = shown.pictures[number]
    rows, columns = picture.seen.grid
    layers, heads = len(picture.seen.weights), picture.seen.weights[0].shape[1]
    everything = torch.cat([*(w[0] for w in picture.seen.weights), rollout(picture.seen.weights)])  # L*h+1 T T
    prefix = picture.seen.prefix
    asked = torch.cat([everything, everything[:, prefix:].mean(1, keepdim=True)], 1)  # L*h+1 T+1 T
    patches = asked[..., prefix:]  # L*h+1 T+1 N
    about = {
        "number": number + 1, "rows": rows, "columns": columns, "prefix": list(shown.tokens), "layers": layers,
        "heads": heads, "start": asked.shape[1] - 1 if shown.start is None else shown.start,
        "levels": _packed(levels(patches)), "most": _packed(patches.amax(-1).numpy().astype("<f4")),
        "elsewhere": _packed(asked[..., :prefix].sum(-1).numpy().astype("<f4")),
    }  # fmt: skip
    askable = [*((name, place) for place, name in enumerate(shown.tokens)), ("mean of all patches", asked.shape[1] - 1)]
    tokens = "".join(
        f'<button class="token" data-query="{place}">{html.escape(name)}</button>' for name, place in askable
    )
    cells = ['<span></span><span class="over">attention head</span><span></span>']
    cells += [f"<span>{head + 1}</span>" for head in range(heads)]
    for layer in range(layers):
        cells.append(f'<span class="layer">layer {layer + 1}</span>')
        cells += [_map(f"layer {layer + 1}, attention head {head + 1}") for head in range(heads)]
    cells += ['<span class="layer">rollout</span>', _map("rollout through all layers")]
    return f"""<section class="picture" style="--picture: url({data_uri(picture.pixels)})">
<script type="application/json">{_json(about)}</script>
<h2>{html.escape(picture.name)}</h2>
<div>
<div class="large" tabindex="0" role="application" aria-label="{html.escape(picture.name)}: point at a patch"><canvas>
</canvas><div class="cursor" style="width: {100 / columns}%; height: {100 / rows}%"></div></div>
<p class="said" aria-live="polite"></p>
<p>Ask instead: {tokens}</p>
</div>
<div class="maps" style="grid-template-columns: auto repeat({heads}, minmax(1.5rem, {max(4, min(7, 42 // heads))}rem))">
{"".join(cells)}
</div>
</section>"""


def _map(name: str) -> str:
    return f'<button class="map" title="{name}" aria-label="{name}"><canvas></canvas></button>'


def _profile(shown: Attended, grid: tuple[int, int]) -> str:
    tokens = grid[0] * grid[1] + len(shown.tokens)
    distance = _table("Mean attention distance, pixels", "How far from a patch lies what it attends to, averaged over "
                      f"{shown.profiled}.", shown.profile.distance, "{:.1f}")  # fmt: skip
    entropy = _table("Entropy, bits", f"0: one token is looked at; {np.log2(tokens):.1f}: all {tokens} tokens alike. "
                     "Each bit more doubles how many.", shown.profile.entropy, "{:.2f}")  # fmt: skip
    return distance + entropy


def _importance(shown: Attended) -> str:
    if shown.importance is None:
        return ""
    loss, count = shown.importance.loss, sum(map(len, shown.importance.loss))
    words = (
        f"Points of accuracy lost where the attention head is silenced. {shown.recogniser}: "
        f"{shown.importance.accuracy:.1f} % of {shown.importance.pictures:,} held-out pictures with all of them. "
        f"Bold where the 95 % interval over pictures leaves out 0; of {count} such intervals about "
        f"{max(round(count / 20), 1)} would by chance alone."
    )
    sure = [[cell.low > 0 or cell.high < 0 for cell in row] for row in loss]
    return _table(
        "Importance for the main task, points", words, [[c.mean for c in row] for row in loss], "{:+.1f}", sure
    )


def _table(
    title: str, words: str, rows: Sequence[Sequence[float]], form: str, sure: Sequence[Sequence[bool]] | None = None
) -> str:
    """Numbers, layers by attention heads, on a ground that grows warmer with them."""
    low, high = min(map(min, rows)), max(map(max, rows))
    numbers = "".join(f"<th>{number + 1}</th>" for number in range(len(rows[0])))
    top = f'<tr><th></th><th class="over" colspan="{len(rows[0])}">attention head</th></tr><tr><th></th>{numbers}</tr>'
    body = []
    for layer, row in enumerate(rows):
        cells = []
        for head, value in enumerate(row):
            mark = ' class="sure"' if sure and sure[layer][head] else ""
            cells.append(f'<td{mark} style="background: rgb{heat(value, low, high)}">{form.format(value)}</td>')
        body.append(f"<tr><th>layer {layer + 1}</th>{''.join(cells)}</tr>")
    table = f"<table>{top}{''.join(body)}</table>"
    return (
        f'<figure><div class="title"><b>{title}</b></div>{table}<figcaption>{html.escape(words)}</figcaption></figure>'
    )


def _packed(numbers: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(numbers).tobytes(), 9)).decode()


def _json(content: object) -> str:
    """JSON that no file name can end early: no < is left in it."""
    return to_json(content).replace("<", "\\u003c")
