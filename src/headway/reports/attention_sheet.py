"""Attention as PNG files: a sheet a picture, a row a layer, a column an attention head; and a sheet of numbers."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from headway.data.decode import fit
from headway.files import write_whole
from headway.measure.attention import Importance, Profile, rollout, seen_from
from headway.protocol import Panel
from headway.reports.attention_page import Attended, Pictured
from headway.reports.overlay import heat, levels, marked, overlay
from headway.reports.sheet import FAINT, INK, PAPER, Sheet, write_png


def write_sheets(attended: Attended, folder: Path) -> None:
    """Write a folder: a sheet a picture, the numbers as a picture (heads.png) and as a table (heads.csv)."""
    start, tokens = attended.start, attended.tokens
    grid = attended.pictures[0].seen.grid
    who = "the mean of all patches"
    if start is not None:
        place = divmod(start - len(tokens), grid[1])
        who = f"the {tokens[start]}" if start < len(tokens) else f"the framed patch ({place[0] + 1},{place[1] + 1})"
    side = grid[0] * max(round(128 / grid[0]), 1)

    def write(temporary: Path) -> None:
        temporary.mkdir(parents=True)
        for number, picture in enumerate(attended.pictures, 1):
            small = torch.from_numpy(np.ascontiguousarray(picture.pixels)).permute(2, 0, 1)  # 3 S S
            smaller = picture._replace(pixels=fit(small, side).permute(1, 2, 0).numpy())
            name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in Path(picture.name).stem)
            sheet = maps_png(smaller, start, who, attended.title, attended.note)
            (temporary / f"{number:02d}-{name[:80]}.png").write_bytes(sheet)
        title = attended.title.replace("Attention", "Attention heads", 1)
        words = f"distance and entropy averaged over {attended.profiled}"
        if attended.importance:
            words += f"; {attended.importance.accuracy:.1f} % of {attended.importance.pictures} recognised with all"
        (temporary / "heads.png").write_bytes(numbers_png(attended.profile, attended.importance, title, words))
        (temporary / "heads.csv").write_text(numbers_csv(attended.profile, attended.importance), encoding="utf-8")

    write_whole(folder, write)


def maps_png(picture: Pictured, token: int | None, who: str, title: str, note: str) -> bytes:
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


def numbers_png(profile: Profile, importance: Importance | None, title: str, note: str) -> bytes:
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


def numbers_csv(profile: Profile, importance: Importance | None) -> str:
    """The same numbers as CSV: a line an attention head, counted from 1."""
    lines = ["layer,attention_head,distance,entropy" + (",loss,low,high" if importance else "")]
    for layer, (distances, entropies) in enumerate(zip(profile.distance, profile.entropy, strict=True)):
        for head, pair in enumerate(zip(distances, entropies, strict=True)):
            loss: Sequence[float] = importance.loss[layer][head] if importance else ()
            lines.append(",".join([str(layer + 1), str(head + 1), *(f"{value:.4f}" for value in (*pair, *loss))]))
    return "\n".join(lines) + "\n"


def _laid(picture: Pictured, map_: torch.Tensor, place: tuple[int, int] | None) -> np.ndarray:
    return marked(overlay(picture.pixels, levels(map_), picture.seen.grid), place, picture.seen.grid)
