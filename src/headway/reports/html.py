"""Self-contained HTML pages: images as data, no script but the page's own, all text escaped."""

import base64
import hashlib
import html
import io
import re
import textwrap
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from headway.reports.image_grid import ImageGrid, caption_verdict, enlargement, panel_pixels, png_bytes

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
.subtitle { margin: .25rem 0 1.5rem; font-size: 1.15rem }
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


def image_grid_html(grid: ImageGrid) -> str:
    """An image grid as a page: the description of the task, then one card per image."""
    title, subtitle = html.escape(grid.title), html.escape(grid.subtitle[:1].upper() + grid.subtitle[1:])
    cards = "\n".join(_card(grid, number) for number in range(len(grid.names)))
    body = f"""<header>
<h1>{title}</h1>
<p class="subtitle">{subtitle}</p>
{_docstring_html(grid.description)}
</header>
<main>
{cards}
</main>
<footer>
<p>{html.escape(grid.note)}</p>
</footer>
"""
    return html_document(f"{grid.title}: pretext task", body)


def html_document(title: str, body: str, style: str = "", script: str = "") -> str:
    """A complete page: it fetches nothing, and runs no script but its own.

    Args:
        title: Title of the window; it is escaped.
        body: HTML.
        style: Additional CSS.
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


def to_rgb(image: Tensor) -> np.ndarray:
    """C h w, any C -> h w 3, uint8: the first three channels as red, green and blue, or the first as gray."""
    values = image if image.dtype == torch.uint8 else image.mul(255).round().byte()
    shown = values[:3] if len(values) >= 3 else values[:1].expand(3, -1, -1)
    return np.ascontiguousarray(shown.permute(1, 2, 0).numpy())  # h w 3


def data_uri(image: Any) -> str:
    """An image, H W 3 uint8, as a data URI: a JPEG of the pixels, without metadata."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _docstring_html(text: str) -> str:
    """Paragraphs and formulas of the docstring of a task's module, without its first line."""
    parts = []
    for part in re.split(r"\n\s*\n", text)[1:]:
        if all(line.startswith("    ") for line in part.splitlines()):
            parts.append(f"<pre>{html.escape(textwrap.dedent(part.rstrip()))}</pre>")
        else:
            parts.append(f"<p>{_inline_markup(html.escape(part))}</p>")
    return "\n".join(parts)


def _inline_markup(escaped: str) -> str:
    """Escaped text with code and links marked up."""
    escaped = re.sub(r"``(.+?)``", r"<code>\1</code>", escaped)
    return re.sub(r"https://[\w./:-]*[\w/]", lambda url: f'<a href="{url[0]}">{url[0]}</a>', escaped)


def _card(grid: ImageGrid, number: int) -> str:
    """One row of the grid."""
    scale, figures = enlargement(grid.panels), []
    for panel in grid.panels:
        image = panel_pixels(panel)[number]  # H W 3
        height, width = image.shape[0] * scale, image.shape[1] * scale
        caption = panel.captions[number] if panel.captions else ""
        text = html.escape(f"{panel.title}: {caption}" if caption else panel.title)
        pixels = base64.b64encode(png_bytes(Image.fromarray(image))).decode()
        figures.append(
            f'<figure style="width: {max(width, 96)}px"><div class="title">{html.escape(panel.title)}</div>'
            f'<img width="{width}" height="{height}" alt="{text}" src="data:image/png;base64,{pixels}">'
            f'<figcaption class="{caption_verdict(caption)}">{html.escape(caption)}</figcaption></figure>'
        )
    name = html.escape(grid.names[number])
    rows = f'<div class="row">{"".join(figures)}</div>'
    return f'<section class="card">{rows}<div class="name" title="{name}">{name}</div></section>'
