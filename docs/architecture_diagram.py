"""The diagram of the architecture, drawn from the imports in src/headway: docs/build.py writes it."""

import ast
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

SOURCE = Path(__file__).resolve().parent.parent / "src" / "headway"
ROOT = "root modules"
"""The row of the modules and helpers that lie below every package."""
ROOT_PARTS = ("errors", "schedule", "utils", "distributed", "worker_team", "rng", "config", "protocol")
BACKGROUND, BOX, BORDER, TEXT, MUTED, DOT = "#fcfbf8", "#eef2f6", "#9fb2c4", "#202124", "#5b6470", "#0072b2"
MARGIN, BOX_WIDTH, GAP, CELL, HEADER, LINE = 28, 850, 10, 34, 150, 20
"""Pixels: around the diagram, of a box, between boxes, of a column of dots, of the header, of a line of text."""
FOOTER = 64


class Row(NamedTuple):
    """A row of the architecture.

    Attributes:
        name: The package, or ROOT.
        parts: Its modules and sub-packages; names of sub-packages end in a slash.
        imports: The other rows that its modules import.
    """

    name: str
    parts: list[str]
    imports: set[str]


def read_rows(source: Path = SOURCE) -> list[Row]:
    """The rows of the package, lowest first: every row imports only rows before it.

    Raises:
        ValueError: Rows import one another in a circle.
    """
    rows: dict[str, Row] = {}
    for path in sorted(source.rglob("*.py")):
        name = path.relative_to(source).with_suffix("").parts
        if name[0].startswith("_"):
            continue  # the package's own __init__ imports everything
        row = rows.setdefault(row_of(name[0]), Row(row_of(name[0]), [], set()))
        row.imports.update({row_of(other) for other in imported_packages(path)} - {row.name})
        inner = name if row.name == ROOT or len(name) == 1 else name[1:]
        part = inner[0] + "/" * (len(inner) > 1)
        if not part.startswith("__") and part not in row.parts:
            row.parts.append(part)
    order: list[Row] = []
    while len(order) < len(rows):
        placed = {row.name for row in order}
        ready = [row for row in rows.values() if row.name not in placed and row.imports & rows.keys() <= placed]
        if not ready:
            raise ValueError(f"rows import one another in a circle: {sorted(rows.keys() - placed)}")
        order.append(min(ready, key=lambda row: (len(row.imports), row.name)))
    return order


def row_of(package: str) -> str:
    """The row of a package or root module."""
    return ROOT if package in ROOT_PARTS else package


def imported_packages(path: Path) -> set[str]:
    """The packages and root modules of headway that a file imports, except for type checkers alone."""
    found = set[str]()
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes += node.orelse
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            package, *rest = node.module.split(".")
            if package == "headway":
                found |= {rest[0]} if rest else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {name[1] for name in names if name[0] == "headway" and len(name) > 1}
        nodes += ast.iter_child_nodes(node)
    return {name for name in found if not name.startswith("_")}


def draw_architecture(file: Path, source: Path = SOURCE) -> None:
    """Draw the rows as boxes, highest first, and beside each a dot for every row that it imports."""
    rows = read_rows(source)
    name_font, part_font = ImageFont.load_default(20), ImageFont.load_default(15)
    lines = {row.name: wrap(row.parts, part_font, BOX_WIDTH - 200) for row in rows}
    heights = {row.name: max(LINE * len(lines[row.name]) + 18, CELL + 4) for row in rows}
    left = MARGIN + BOX_WIDTH + 24
    size = (left + CELL * len(rows) + MARGIN, HEADER + sum(heights.values()) + GAP * len(rows) + FOOTER)
    image = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, HEADER - 46), "src/headway: each row imports only rows below it", TEXT, name_font, "ls")
    draw.text((MARGIN, HEADER - 20), "a dot: the row of the box imports the row of the column", MUTED, part_font, "ls")
    for column, row in enumerate(rows):
        label = vertical_text(row.name, part_font)
        image.paste(label, (left + CELL * column + (CELL - label.width) // 2, HEADER - 12 - label.height))
    top = HEADER
    for number, row in reversed(list(enumerate(rows))):
        bottom = top + heights[row.name]
        middle = (top + bottom) // 2
        draw.rounded_rectangle((MARGIN, top, MARGIN + BOX_WIDTH, bottom), 6, BOX, BORDER)
        draw.text((MARGIN + 14, middle), row.name, TEXT, name_font, "lm")
        first = middle - LINE * (len(lines[row.name]) - 1) // 2
        for i, line in enumerate(lines[row.name]):
            draw.text((MARGIN + 180, first + LINE * i), line, MUTED, part_font, "lm")
        draw.line((left, middle, left + CELL * len(rows), middle), BORDER)
        for column, other in enumerate(rows):
            x = left + CELL * column + CELL // 2
            if other.name in row.imports:
                draw.ellipse((x - 7, middle - 7, x + 7, middle + 7), DOT)
            elif column == number:
                draw.rectangle((x - 6, middle - 6, x + 6, middle + 6), BOX, BORDER)
        top = bottom + GAP
    note = (
        "A square: the row itself. Names that end in a slash are sub-packages. Drawn from the imports by docs/build.py."
    )
    draw.text((MARGIN, top + 24), note, MUTED, part_font, "ls")
    image.save(file, optimize=True)


def wrap(words: list[str], font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The words, separated by commas, in lines that are no wider than ``width`` pixels."""
    lines = [""]
    for word in words:
        longer = f"{lines[-1]}, {word}".removeprefix(", ")
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def vertical_text(text: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """Text that reads from the bottom to the top."""
    width, height = int(font.getlength(text)) + 2, 22
    image = Image.new("RGB", (width, height), BACKGROUND)
    ImageDraw.Draw(image).text((0, height // 2), text, TEXT, font, "lm")
    return image.transpose(Image.Transpose.ROTATE_90)
