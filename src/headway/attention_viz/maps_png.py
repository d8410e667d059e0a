"""Attention as PNG files: a grid of maps per image (layers by attention heads), and one of numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from headway.attention_viz.analysis import (
    AttentionHeadImportance,
    AttentionStatistics,
    attention_rollout,
    patch_attention,
)
from headway.attention_viz.maps_html import AttentionImage, AttentionReport
from headway.attention_viz.overlay import cell_color, frame_patch, overlay_map, to_levels
from headway.data.decoding.decode import center_crop_resize
from headway.protocol import Panel
from headway.reports.image_grid import BACKGROUND, FOREGROUND, MUTED, ImageGrid, image_grid_png, png_bytes
from headway.utils.files import atomic_write


def write_attention_pngs(report: AttentionReport, folder: Path) -> None:
    """Write a folder: one grid of maps per image, the statistics as an image (heads.png) and a table (heads.csv)."""
    token, names = report.initial_token, report.prefix_names
    grid = report.images[0].maps.grid
    token_name = "the mean of all patches"
    if token is not None and token < len(names):
        token_name = f"the {names[token]}"
    elif token is not None:
        row, column = divmod(token - len(names), grid[1])
        token_name = f"the framed patch ({row + 1},{column + 1})"
    side = grid[0] * max(round(128 / grid[0]), 1)

    def write(temporary: Path) -> None:
        temporary.mkdir(parents=True)
        for number, image in enumerate(report.images, 1):
            pixels = torch.from_numpy(np.ascontiguousarray(image.pixels)).permute(2, 0, 1)  # 3 S S
            smaller = image._replace(pixels=center_crop_resize(pixels, side).permute(1, 2, 0).numpy())
            name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in Path(image.name).stem)
            png = maps_png(smaller, token, token_name, report.title, report.note)
            (temporary / f"{number:02d}-{name[:80]}.png").write_bytes(png)
        title = report.title.replace("Attention", "Attention heads", 1)
        note = f"distance and entropy averaged over {report.statistics_scope}"
        if report.importance:
            note += f"; {report.importance.accuracy:.1f} % of {report.importance.images} correct with all"
        (temporary / "heads.png").write_bytes(statistics_png(report.statistics, report.importance, title, note))
        (temporary / "heads.csv").write_text(statistics_csv(report.statistics, report.importance), encoding="utf-8")

    atomic_write(folder, write)


def maps_png(image: AttentionImage, token: int | None, token_name: str, title: str, note: str) -> bytes:
    """All attention maps of one token of one image: the bytes of a PNG.

    Args:
        image: The image and its attention maps.
        token: Index of the token that attends, prefix tokens included; None: the mean of all patches.
        token_name: The same in words.
        title: Contains the name of the network.
        note: How the grid was made.
    """
    weights, prefix, grid = image.maps
    patch = None if token is None or token < prefix else divmod(token - prefix, grid[1])
    plain = frame_patch(image.pixels, patch, grid)
    columns = [[plain] * len(weights)]
    for head in range(weights[0].shape[1]):
        columns.append([_overlaid(image, patch_attention(layer[0, head], token, prefix), patch) for layer in weights])
    rollouts = [attention_rollout(weights[: layer + 1])[0] for layer in range(len(weights))]
    columns.append([_overlaid(image, patch_attention(maps, token, prefix), patch) for maps in rollouts])
    titles = ["image", *(f"attention head {head + 1}" for head in range(weights[0].shape[1])), "rollout to here"]
    captions = [f"layer {layer + 1}" for layer in range(len(weights))]
    panels = [
        Panel(name, torch.from_numpy(np.stack(column)).permute(0, 3, 1, 2) / 255, captions if name == "image" else ())
        for name, column in zip(titles, columns, strict=True)
    ]
    subtitle = f"{image.name}: what {token_name} attends to. Each map is scaled to its own maximum."
    return image_grid_png(ImageGrid(title, subtitle, panels, captions, note))


def statistics_png(
    statistics: AttentionStatistics, importance: AttentionHeadImportance | None, title: str, note: str
) -> bytes:
    """Distance, entropy and importance of every attention head as colored cells: the bytes of a PNG."""
    tables = [
        ("mean attention distance, pixels", statistics.distance, "{:.1f}"),
        ("entropy, bits", statistics.entropy, "{:.2f}"),
    ]
    if importance is not None:
        rows = [[cell.mean for cell in row] for row in importance.accuracy_drop]
        tables.append(("points of accuracy lost when ablated", rows, "{:+.1f}"))
    large, small, cell, row_height, margin = ImageFont.load_default(22), ImageFont.load_default(13), 52, 28, 28
    heads, layers = len(statistics.distance[0]), len(statistics.distance)
    block = max(64 + heads * cell, 290)
    width = 2 * margin + len(tables) * block + (len(tables) - 1) * margin
    image = Image.new("RGB", (max(width, 700), 2 * margin + 110 + layers * row_height + 40), BACKGROUND)
    pen = ImageDraw.Draw(image)
    pen.text((margin, margin), title, FOREGROUND, large)
    for number, (name, rows, number_format) in enumerate(tables):
        left, top = margin + number * (block + margin), margin + 50
        low, high = min(map(min, rows)), max(map(max, rows))
        pen.text((left, top), name, FOREGROUND, small)
        pen.text((left + 64, top + 22), "attention head", MUTED, small)
        for head in range(heads):
            pen.text((left + 64 + (head + 0.5) * cell, top + 48), str(head + 1), MUTED, small, anchor="mm")
        for layer, row in enumerate(rows):
            y = top + 60 + layer * row_height
            pen.text((left, y + row_height / 2), f"layer {layer + 1}", MUTED, small, anchor="lm")
            for head, value in enumerate(row):
                x = left + 64 + head * cell
                pen.rectangle([x, y, x + cell - 2, y + row_height - 2], fill=cell_color(value, low, high))
                pen.text(
                    (x + cell / 2, y + row_height / 2), number_format.format(value), FOREGROUND, small, anchor="mm"
                )
    pen.text((margin, image.height - margin), note, MUTED, small, anchor="ls")
    return png_bytes(image)


def statistics_csv(statistics: AttentionStatistics, importance: AttentionHeadImportance | None) -> str:
    """The same numbers as CSV: one line per attention head; layers and attention heads count from 1."""
    lines = ["layer,attention_head,distance,entropy" + (",accuracy_drop,low,high" if importance else "")]
    for layer, (distances, entropies) in enumerate(zip(statistics.distance, statistics.entropy, strict=True)):
        for head, pair in enumerate(zip(distances, entropies, strict=True)):
            drop: Sequence[float] = importance.accuracy_drop[layer][head] if importance else ()
            lines.append(",".join([str(layer + 1), str(head + 1), *(f"{value:.4f}" for value in (*pair, *drop))]))
    return "\n".join(lines) + "\n"


def _overlaid(image: AttentionImage, attention: torch.Tensor, patch: tuple[int, int] | None) -> np.ndarray:
    return frame_patch(overlay_map(image.pixels, to_levels(attention), image.maps.grid), patch, image.maps.grid)
