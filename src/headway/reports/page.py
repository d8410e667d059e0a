"""The same sheet as one HTML page that needs nothing else: pictures as data, no script, every text escaped."""

import base64
import hashlib
import html
import io
import re
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from headway.reports.sheet import Sheet, factor, mark, pixels

STYLE = """
:root { color-scheme: light dark; --paper: #fcfbf8; --card: #fff; --line: #e4e2dc; --ink: #202124; --faint: #6b6d73;
  --right: #18793a; --wrong: #b82c20 }
@media (prefers-color-scheme: dark) { :root { --paper: #17181a; --card: #1f2124; --line: #34363a; --ink: #e8e6e1;
  --faint: #a0a2a8; --right: #6fcf8f; --wrong: #ff8f80 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 88rem; padding: 2.5rem 1.5rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
header, footer { max-width: 46rem }
h1 { margin: 0; font-size: 2rem; line-height: 1.2 }
.claim { margin: .25rem 0 1.5rem; font-size: 1.15rem }
details { margin-bottom: 1.5rem; color: var(--faint) }
pre { margin: .75rem 0; padding: .75rem 1rem; white-space: pre-wrap; border-left: 3px solid var(--line);
  color: var(--ink); font: .9rem/1.5 ui-monospace, monospace }
a { color: inherit }
main { display: flex; flex-wrap: wrap; gap: 1rem; margin-bottom: 1.5rem }
.card { max-width: 100%; padding: 1rem; overflow-x: auto; border: 1px solid var(--line); border-radius: 8px;
  background: var(--card) }
.row { display: flex; gap: .75rem }
figure { display: flex; flex-direction: column; flex: none; margin: 0; font-size: .85rem; line-height: 1.3 }
.title { margin-bottom: .4rem }
figure img { display: block; margin-top: auto; image-rendering: pixelated }
figcaption { min-height: 2.6em; margin-top: .35rem; color: var(--faint) }
.right { color: var(--right) } .wrong { color: var(--wrong) }
.name { margin-top: .25rem; overflow: hidden; color: var(--faint); font-size: .75rem; text-overflow: ellipsis;
  white-space: nowrap }
footer { color: var(--faint); font-size: .9rem }
"""


def write_page(sheet: Sheet) -> str:
    """The page: what the game is, then a card a picture."""
    title, claim = html.escape(sheet.title), html.escape(sheet.claim[:1].upper() + sheet.claim[1:])
    cards = "\n".join(_card(sheet, number) for number in range(len(sheet.names)))
    body = f"""<header>
<h1>{title}</h1>
<p class="claim">{claim}</p>
{_story(sheet.story)}
</header>
<main>
{cards}
</main>
<footer>
<p>{html.escape(sheet.note)}</p>
</footer>
"""
    return document(f"{sheet.title}: the game", body)


def document(title: str, body: str, style: str = "", script: str = "") -> str:
    """A whole page around its body: nothing is fetched from anywhere, and no script runs but the page's own.

    Args:
        title: Of the window; it is escaped.
        body: HTML.
        style: More CSS.
        script: JavaScript, run after the body; the page allows it by its hash.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"; script-src 'sha256-{digest}'" if script else ""
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'{allowed}"
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{html.escape(title)}</title>
<style>{STYLE}{style}</style>
{body}{f"<script>{script}</script>" if script else ""}</html>
"""


def colours(picture: Tensor) -> np.ndarray:
    """C h w of any channels -> h w 3, uint8: the first three as red, green and blue, or the first as grey."""
    values = picture if picture.dtype == torch.uint8 else picture.mul(255).round().byte()
    shown = values[:3] if len(values) >= 3 else values[:1].expand(3, -1, -1)
    return np.ascontiguousarray(shown.permute(1, 2, 0).numpy())  # h w 3


def data_uri(picture: Any) -> str:
    """A picture, H W 3 uint8, as an address that holds it: JPEG made from the pixels, so nothing else goes along."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _story(text: str) -> str:
    """Paragraphs and formulas of the head of a task's file, its first line (the claim) aside."""
    parts = []
    for part in re.split(r"\n\s*\n", text)[1:]:
        safe = html.escape(part)
        if all(line.startswith("    ") for line in part.splitlines()):
            parts.append(f"<pre>{html.escape(_flush(part))}</pre>")
        else:
            parts.append(f"<p>{_linked(safe)}</p>")
    return "\n".join(parts)


def _flush(text: str) -> str:
    """Formula lines without the indentation that they share."""
    lines = text.rstrip().splitlines()
    shared = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[shared:] for line in lines)


def _linked(safe: str) -> str:
    """Escaped text whose names of code look like code and whose web addresses can be followed."""
    safe = re.sub(r"``(.+?)``", r"<code>\1</code>", safe)
    return re.sub(r"https://[\w./:-]*[\w/]", lambda found: f'<a href="{found[0]}">{found[0]}</a>', safe)


def _card(sheet: Sheet, number: int) -> str:
    """Everything about one picture."""
    by, figures = factor(sheet.panels), []
    for panel in sheet.panels:
        picture = pixels(panel)[number]  # H W 3
        height, width = picture.shape[0] * by, picture.shape[1] * by
        caption = panel.captions[number] if panel.captions else ""
        words = html.escape(f"{panel.title}: {caption}" if caption else panel.title)
        figures.append(
            f'<figure style="width: {max(width, 96)}px"><div class="title">{html.escape(panel.title)}</div>'
            f'<img width="{width}" height="{height}" alt="{words}" src="data:image/png;base64,{_data(picture)}">'
            f'<figcaption class="{mark(caption)}">{html.escape(caption)}</figcaption></figure>'
        )
    name = html.escape(sheet.names[number])
    rows = f'<div class="row">{"".join(figures)}</div>'
    return f'<section class="card">{rows}<div class="name" title="{name}">{name}</div></section>'


def _data(picture: object) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
