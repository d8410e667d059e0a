"""Rebuild the images and tables of docs/ and README.md: `python docs/build.py` (or `make docs`).

    python docs/build.py            # tables from benchmarks/cells, the contact sheet, the diagram of the architecture
    python docs/build.py --tasks    # also the sheets of the tasks, with predictions of trained networks (minutes)

In docs/tasks the text between ``<!-- measured: TASK -->`` and ``<!-- end -->`` is replaced by recipe and results. In
docs/leaderboard.md the table after ``<!-- measured: DATA BUDGET -->`` is replaced; in README.md the last column of the
tasks that have been measured.
"""

import argparse
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
from headway.errors import CODES
from headway.pretext import TASKS
from headway.synthetic import write_folder

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent / "benchmarks")]
from architecture_diagram import draw_architecture  # noqa: E402
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
    fill(DOCS / "errors.md", "<!-- codes -->", error_table())
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


def fill(page: Path, mark: str, text: str) -> None:
    """Put text between a mark and the end mark that follows it; a page without the mark stays as it is."""
    old = page.read_text(encoding="utf-8")
    pattern = re.compile(rf"({re.escape(mark)}\n).*?(<!-- end -->)", re.DOTALL)
    page.write_text(pattern.sub(lambda found: found[1] + text + found[2], old), encoding="utf-8")


def task_results(page: str, cells: list[dict[str, Any]]) -> str:
    """The recipe of a task, and a table for each data set and budget: the task's rows beside the baselines.

    Args:
        page: The stem of a page in docs/tasks: a task's name, or ``combined``, which has the rows of all combinations.
        cells: All cells.
    """
    own = [cell for cell in cells if page_of(cell["task"]) == page and not cell["data"].endswith("-dev")]
    parts = [recipe_sentence(TASKS[page])] if page in TASKS else []
    if not own:
        parts.append(NOT_MEASURED)
    for data, budget in sorted({(cell["data"], cell["budget"]) for cell in own}):
        found = [cell for cell in own if (cell["data"], cell["budget"]) == (data, budget)]
        base = [cell for cell in cells if cell["data"] == data and cell["task"] in IN_COLOR]
        tasks = list(dict.fromkeys(cell["task"] for cell in found))  # rotation+mae, say
        if any(TASKS[part].grayscale for name in tasks for part in name.split("+") if part in TASKS):
            base += [cell for cell in cells if cell["data"] == data and cell["task"] in IN_GRAYSCALE]
        probes, cores = found[0]["probes"], found[0]["machine"]["cores"]
        seeds = " ".join(map(str, sorted({cell["seed"] for cell in found})))
        command = f"python benchmarks/leaderboard.py --run {' '.join(tasks)} --data {data}=FOLDER --budget {budget:g}"
        parts.append(
            f"{data}, {budget:g} CPU seconds ({duration_text(budget, cores)}), `vit_micro` with a convolutional\n"
            f"stem and patches of 8 pixels; {probes['labels']:,} labels, {probes['test']:,} test images.\n"
            f"Accuracy in per cent, mean and standard deviation over seeds:\n\n{probe_table([*found, *base])}\n"
            f"`{command} --cores {cores} --seeds {seeds}`\n"
        )
    return "\n".join(parts)


def recipe_sentence(recipe: Recipe) -> str:
    """Optimizer, batch size and length of a task's recipe."""
    optim, batch_size = recipe.optim, recipe.batch_size
    peak = "" if batch_size == 256 else f" (peak {optim.peak_lr(batch_size):g})"
    decay, final = f"{optim.weight_decay:g}", optim.final_weight_decay
    decay += "" if final is None else f" to {final:g}"
    method = {"muon": "Muon", "adamw": "AdamW"}[optim.method]
    return (
        f"The recipe: {method} at learning rate {optim.lr:g} for 256 images, {batch_size} images per step{peak}, "
        f"weight decay {decay};\n{recipe.epochs} epochs if neither a budget nor a length is given.\n"
    )


def page_of(task: str) -> str:
    """The page in docs/tasks that describes a task."""
    return "combined" if "+" in task else task


def duration_text(budget: float, cores: int) -> str:
    """CPU seconds as wall time."""
    return f"{budget / 60 / cores:g} minutes of {'one core' if cores == 1 else f'{cores} cores'}"


def probe_table(cells: list[dict[str, Any]]) -> str:
    """Rows by name: mean and standard deviation of each probe over seeds."""
    rows: Rows = defaultdict(list)
    for cell in cells:
        rows[f"{cell['task']} {cell['variant']}".strip()].append(cell)
    return markdown(
        ["", "seeds", *PROBES.values()],
        [[name, str(len(row)), *(format_probe(row, key) for key in PROBES)] for name, row in rows.items()],
    )


def leaderboard(rows: Rows) -> str:
    """The rows of a data set and budget: the best linear probe first, those without one (from scratch) last."""
    probed = sort_rows(rows, "linear")
    names = [name for name, _ in probed]
    others = [(name, row) for name, row in rows.items() if name not in names]
    heads = ["task", "seeds", "processor", "steps", *PROBES.values()]
    return markdown(heads, [
        [
            name, str(len(row)), ", ".join(sorted({cell["machine"]["processor"] for cell in row})),
            format_mean(row, "steps", 0), *(format_probe(row, key) for key in PROBES),
        ]
        for name, row in [*probed, *others]
    ])  # fmt: skip


def error_table() -> str:
    """The codes of errors and what they say."""
    return markdown(["code", "it says"], [[f"`{code}`", meaning] for code, meaning in sorted(CODES.items())])


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]]) + "\n"


def update_readme(readme: Path, cells: list[dict[str, Any]]) -> None:
    """Write 20-NN and linear probe on CIFAR-10, after 360 CPU seconds, into the row of every task measured so."""
    lines = readme.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        task = line.split("`")[1] if line.startswith("| [`") else ""
        key = (task, "cifar10", 360, "")
        row = [c for c in cells if (c["task"], c["data"], c["budget"], c["variant"]) == key]
        if row:
            numbers = " / ".join(format_probe(row, name) for name in ("knn", "linear"))
            lines[number] = f"{line.rstrip('| ').rpartition(' |')[0]} | {numbers} |"
    readme.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
