"""Rebuild the images and tables of docs/ and README.md: `python docs/build.py` (or `make docs`).

    python docs/build.py            # tables from benchmarks/cells, the contact sheet, the diagram of the architecture
    python docs/build.py --tasks    # also the sheets of the tasks, with predictions of trained networks (minutes)

In docs/tasks the text between ``<!-- measured: TASK -->`` and ``<!-- end -->`` is replaced by recipe and results. In
docs/leaderboard.md the table after ``<!-- measured: DATA BUDGET -->`` is replaced; in README.md the last column of the
tasks that have been measured.
"""

import argparse
import ast
import os
import re
import runpy
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import headway
from headway.config import Recipe
from headway.pretext import TASKS
from headway.synthetic import write_folder

DOCS = Path(__file__).resolve().parent
SOURCE = DOCS.parent / "src" / "headway"
sys.path.insert(0, str(DOCS.parent / "benchmarks"))
from cells_io import CELLS, read_cells  # noqa: E402
from tables import FEW_LABELS, Rows, format_mean, format_probe, group_rows, sort_rows  # noqa: E402

SHEET_STEPS = {
    "rotation": 400, "relative_position": 400, "jigsaw": 300, "colorization": 1600, "inpainting": 1600, "mae": 400,
    "simclr": 200, "dino": 400,
}  # fmt: skip
"""Steps of pretraining, on synthetic animals of 64 pixels, before a sheet shows the network's predictions."""
PROBES = {"knn": "20-NN", "linear": "linear", "linear_best_layer": "best layer", FEW_LABELS: "10 labels per class"}
NOT_MEASURED = "Its loss is tested against a slow reference. The value of its features has not been measured yet.\n"
IN_COLOR = ("raw pixels", "untrained")
IN_GRAYSCALE = tuple(f"{name} in grayscale" for name in IN_COLOR)


def main() -> None:
    """Rebuild what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", action="store_true", help="rebuild the sheets of the tasks as well")
    if parser.parse_args().tasks:
        draw_task_sheets()
    draw_animals()
    draw_architecture(DOCS / "architecture.png")
    cells = read_cells(CELLS)
    for (data, budget), rows in group_rows(cells).items():
        fill(DOCS / "leaderboard.md", f"<!-- measured: {data} {budget:g} -->", leaderboard(rows))
    for page in sorted((DOCS / "tasks").glob("*.md")):
        fill(page, f"<!-- measured: {page.stem} -->", task_results(page.stem, cells))
    update_readme(DOCS.parent / "README.md", cells)


def draw_animals() -> None:
    """Draw the contact sheet of synthetic animals."""
    sys.argv = ["contact_sheet.py", str(DOCS / "animals.png")]
    runpy.run_path(str(DOCS.parent / "examples" / "contact_sheet.py"), run_name="__main__")


def draw_task_sheets() -> None:
    """Train a network for each task, and draw its predictions on animals that it has not seen."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # so that the sheets name no folder of this machine
        write_folder(Path("animals"), 1500, 96, seed=1)
        write_folder(Path("unseen"), 4, 96, seed=2)
        for task, steps in SHEET_STEPS.items():
            run, sheet = Path("runs") / task, DOCS / "tasks" / f"{task}.png"
            headway.pretrain(
                task, data="animals", out=run, backbone="vit_nano", stem="conv", patch=8, size=64, steps=steps
            )
            sheet.unlink(missing_ok=True)
            headway.show(task, data="unseen", run=run, out=sheet, count=4)


def architecture() -> list[tuple[str, list[str], list[str]]]:
    """The rows of the package, lowest first: name, its modules or sub-packages, and the rows that it imports."""
    modules = sorted(SOURCE.rglob("*.py"))
    parts = {path: path.relative_to(SOURCE).with_suffix("").parts for path in modules}
    rows = {name[0]: set[str]() for name in parts.values()} | {"cli": set[str]()}
    del rows["__init__"]
    imports: dict[str, set[str]] = {row: set() for row in rows}
    for path, name in parts.items():
        if name[0] not in rows:
            continue
        if len(name) > 1 and name[1] != "__init__":
            rows[name[0]].add(name[1] + "/" * (len(name) > 2))
        imports[name[0]] |= imported_rows(path) & rows.keys() - {name[0]}
    order: list[str] = []
    while len(order) < len(rows):  # lowest first: rows that import least; of equals, the first by name
        ready = [row for row in rows if row not in order and imports[row] <= set(order)]
        order += sorted(ready)
    return [(row, sorted(rows[row]), [other for other in order if other in imports[row]]) for row in order]


def imported_rows(path: Path) -> set[str]:
    """The rows of the package that a file imports, except for type checkers alone."""
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
        nodes += ast.iter_child_nodes(node)
    return found
