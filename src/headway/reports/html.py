"""Self-contained HTML pages from templates: images as data, no script but the page's own, all text escaped."""

import base64
import functools
import hashlib
import io
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from markupsafe import Markup, escape
from PIL import Image
from torch import Tensor

from headway.reports.data_check import escape_unprintable
from headway.reports.image_grid import ImageGrid, caption_verdict, enlargement, panel_pixels, png_bytes

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")


def render_page(
    template: str, folder: Path = TEMPLATES, *, styles: Sequence[str] = (), script: str = "", **content: Any
) -> str:
    """A complete page: it fetches nothing, and its policy allows its own style and script by their hashes.

    Args:
        template: File name of the template, which extends ``base.html.j2``.
        folder: Folder of the template, searched before the folder of the shared templates.
        styles: File names of the style sheets that follow the shared ones.
        script: File name of the page's script, if it has one.
        content: Values that the template names. Text is escaped, and unprintable characters are shown as escapes; a
            name that is missing raises jinja2's UndefinedError.
    """
    environment = _environment(folder)

    def source(name: str) -> Markup:
        assert environment.loader
        return Markup(environment.loader.get_source(environment, name)[0])

    style = Markup().join(map(source, ["colors.css", "page.css", *styles]))
    code = source(script) if script else Markup()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"style-src-elem '{_digest(style)}'; style-src-attr 'unsafe-inline'"
    ) + (f"; script-src '{_digest(code)}'" if code else "")
    return environment.get_template(template).render(content, style=style, script=code, policy=Markup(policy))


def image_grid_html(grid: ImageGrid) -> str:
    """An image grid as a page: the description of the task, then one card per image."""
    return render_page(
        "image_grid.html.j2",
        title=grid.title,
        subtitle=grid.subtitle[:1].upper() + grid.subtitle[1:],
        description=_docstring_parts(grid.description),
        cards=[{"name": name, "images": _row_images(grid, number)} for number, name in enumerate(grid.names)],
        note=grid.note,
    )


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


@functools.cache
def _environment(folder: Path) -> "Environment":
    import jinja2  # only where a page is written

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]), undefined=jinja2.StrictUndefined, autoescape=True,
        finalize=_printable, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["thousands"] = "{:,}".format
    return environment


def _printable(value: Any) -> Any:
    """What a template inserts: HTML as it is, everything else as printable text, which jinja2 then escapes."""
    return value if isinstance(value, Markup) else escape_unprintable(str(value))


def _digest(text: str) -> str:
    """The hash by which a Content-Security-Policy allows an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _docstring_parts(text: str) -> list[dict[str, Any]]:
    """Paragraphs and formulas of the docstring of a task's module, without its first line."""
    parts = []
    for part in re.split(r"\n\s*\n", "\n".join(map(escape_unprintable, text.split("\n"))))[1:]:
        is_formula = all(line.startswith("    ") for line in part.splitlines())
        shown = escape(textwrap.dedent(part.rstrip())) if is_formula else _inline_markup(escape(part))
        parts.append({"is_formula": is_formula, "text": shown})
    return parts


def _inline_markup(escaped: str) -> Markup:
    """Escaped text with code and links marked up."""
    escaped = re.sub(r"``(.+?)``", r"<code>\1</code>", escaped)
    return Markup(re.sub(r"https://[\w./:-]*[\w/]", lambda url: f'<a href="{url[0]}">{url[0]}</a>', escaped))


def _row_images(grid: ImageGrid, number: int) -> list[dict[str, Any]]:
    """The images of one row of the grid."""
    scale, images = enlargement(grid.panels), []
    for panel in grid.panels:
        image = panel_pixels(panel)[number]  # H W 3
        caption = panel.captions[number] if panel.captions else ""
        pixels = base64.b64encode(png_bytes(Image.fromarray(image))).decode()
        images.append({
            "title": panel.title, "caption": caption, "verdict": caption_verdict(caption),
            "width": scale * image.shape[1], "height": scale * image.shape[0],
            "source": f"data:image/png;base64,{pixels}",
        })  # fmt: skip
    return images
