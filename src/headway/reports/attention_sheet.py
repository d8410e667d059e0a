"""Attention as PNG files: a sheet a picture, a row a layer, a column an attention head; and a sheet of numbers."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from headway.measure.attention import Importance, Profile, rollout, seen_from
from headway.protocol import Panel
from headway.reports.attention_page import Pictured
from headway.reports.overlay import heat, levels, marked, overlay
from headway.reports.sheet import FAINT, INK, PAPER, Sheet, write_png


def write_maps(picture: Pictured, token: int | None, who: str, title: str, note: str) -> bytes:
    """Everything one token of one picture attends to: the bytes of a PNG.

    Args:
        picture: What was looked at.
        token: Which one looks, prefix tokens counted; None: the mean of all patches.
        who: The same in words.
        title: Names the network.
        note: How it was made.
    """
    weights, prefix, grid = picture.seen
    place = None if token is None or token < prefix else divmod(token - prefix, grid[1])
    plain = marked(picture.pixels, place, grid)
    columns = [[plain] * len(weights)]
    for head in range(weights[0].shape[1]):
        columns.append([_laid(picture, seen_from(layer[0, head], token, prefix), place) for layer in weights])
    upto = [rollout(weights[: layer + 1])[0] for layer in range(len(weights))]
    columns.append([_laid(picture, seen_from(maps, token, prefix), place) for maps in upto])
    titles = ["picture", *(f"attention head {head + 1}" for head in range(weights[0].shape[1])), "rollout to here"]
    captions = [f"layer {layer + 1}" for layer in range(len(weights))]
    panels = [
        Panel(name, torch.from_numpy(np.stack(column)).permute(0, 3, 1, 2) / 255, captions if name == "picture" else ())
        for name, column in zip(titles, columns, strict=True)
    ]
    claim = f"{picture.name}: what {who} attends to. Each map is scaled to its own brightest patch."
    return write_png(Sheet(title, claim, panels, captions, note))


def write_numbers(profile: Profile, importance: Importance | None, title: str, note: str) -> bytes:
    """Distance, entropy and importance of every attention head as warm and cold cells: the bytes of a PNG."""
    tables = [
        ("mean attention distance, pixels", profile.distance, "{:.1f}"),
        ("entropy, bits", profile.entropy, "{:.2f}"),
    ]
    if importance is not None:
        rows = [[cell.mean for cell in row] for row in importance.loss]
        tables.append(("points of accuracy lost when silenced", rows, "{:+.1f}"))
    large, small, cell, tall, margin = ImageFont.load_default(22), ImageFont.load_default(13), 52, 28, 28
    heads, layers = len(profile.distance[0]), len(profile.distance)
    block = max(64 + heads * cell, 290)
    width = 2 * margin + len(tables) * block + (len(tables) - 1) * margin
    image = Image.new("RGB", (max(width, 700), 2 * margin + 110 + layers * tall + 40), PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((margin, margin), title, INK, large)
    for number, (name, rows, form) in enumerate(tables):
        left, top = margin + number * (block + margin), margin + 50
        low, high = min(map(min, rows)), max(map(max, rows))
        pen.text((left, top), name, INK, small)
        pen.text((left + 64, top + 22), "attention head", FAINT, small)
        for head in range(heads):
            pen.text((left + 64 + (head + 0.5) * cell, top + 48), str(head + 1), FAINT, small, anchor="mm")
        for layer, row in enumerate(rows):
            y = top + 60 + layer * tall
            pen.text((left, y + tall / 2), f"layer {layer + 1}", FAINT, small, anchor="lm")
            for head, value in enumerate(row):
                x = left + 64 + head * cell
                pen.rectangle([x, y, x + cell - 2, y + tall - 2], fill=heat(value, low, high))
                pen.text((x + cell / 2, y + tall / 2), form.format(value), INK, small, anchor="mm")
    pen.text((margin, image.height - margin), note, FAINT, small, anchor="ls")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def write_table(profile: Profile, importance: Importance | None) -> str:
    """The same numbers as CSV: a line an attention head, counted from 1."""
    lines = ["layer,attention_head,distance,entropy" + (",loss,low,high" if importance else "")]
    for layer, (distances, entropies) in enumerate(zip(profile.distance, profile.entropy, strict=True)):
        for head, pair in enumerate(zip(distances, entropies, strict=True)):
            loss: Sequence[float] = importance.loss[layer][head] if importance else ()
            lines.append(",".join([str(layer + 1), str(head + 1), *(f"{value:.4f}" for value in (*pair, *loss))]))
    return "\n".join(lines) + "\n"


def _laid(picture: Pictured, map_: torch.Tensor, place: tuple[int, int] | None) -> np.ndarray:
    return marked(overlay(picture.pixels, levels(map_), picture.seen.grid), place, picture.seen.grid)
