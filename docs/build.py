"""Rebuild the images and tables of docs/ and README.md: `python docs/build.py` (or `make docs`).

    python docs/build.py            # tables from benchmarks/cells, the contact sheet
    python docs/build.py --tasks    # also the sheets of the tasks, with answers of networks trained for them (minutes)

In docs/tasks what stands between ``<!-- measured: TASK -->`` and ``<!-- end -->`` is replaced by recipe and results, in
docs/leaderboard.md what follows ``<!-- measured: DATA BUDGET -->``; in README.md the last column of the tasks that have
been measured.
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
from headway.pretext import TASKS
from headway.synthetic import write_folder

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "benchmarks"))
from kept import FOLDER, read  # noqa: E402
from standings import Rows, grouped, mean_of, ordered, probe_of  # noqa: E402

GAMES = {
    "rotation": 400, "relative_position": 400, "jigsaw": 300, "colorization": 1600, "inpainting": 1600, "mae": 400,
    "simclr": 200, "dino": 400,
}  # fmt: skip
"""Steps for which a network is trained, on drawn animals of 64 pixels, before it is asked."""
PROBES = {"knn": "20-NN", "linear": "linear", "best": "best layer", "ten": "10 labels a class"}
NOTHING = "Its loss is tested against a slow reference; what its features are worth has not been measured yet.\n"
COLOURED, GREY = ("raw pixels", "untrained"), ("raw pixels in gray", "untrained in gray")


def main() -> None:
    """Rebuild what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", action="store_true")
    if parser.parse_args().tasks:
        draw_games()
    draw_animals()
    cells = read(FOLDER)
    for (data, budget), rows in grouped(cells).items():
        fill(DOCS / "leaderboard.md", f"<!-- measured: {data} {budget:g} -->", leaderboard(rows))
    for page in sorted((DOCS / "tasks").glob("*.md")):
        fill(page, rf"<!-- measured: {page.stem} -->", measured(page.stem, cells))
    overview(DOCS.parent / "README.md", cells)


def draw_animals() -> None:
    """The contact sheet of drawn animals."""
    sys.argv = ["contact_sheet.py", str(DOCS / "animals.png")]
    runpy.run_path(str(DOCS.parent / "examples" / "contact_sheet.py"), run_name="__main__")


def draw_games() -> None:
    """Train a network for each task and let it answer about animals that it has not seen."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # so that the sheets name no place of this machine
        write_folder(Path("animals"), 1500, 96, seed=1)
        write_folder(Path("unseen"), 4, 96, seed=2)
        for task, steps in GAMES.items():
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


def measured(task: str, cells: list[dict[str, Any]]) -> str:
    """A task's recipe, and its rows (of all combinations for ``combined``) beside the baselines, a table for each data
    set and budget.
    """
    own = [cell for cell in cells if page_of(cell["task"]) == task and not cell["data"].endswith("-dev")]
    parts = [by_recipe(TASKS[task])] if task in TASKS else []
    if not own:
        parts.append(NOTHING)
    for data, budget in sorted({(cell["data"], cell["budget"]) for cell in own}):
        found = [cell for cell in own if (cell["data"], cell["budget"]) == (data, budget)]
        base = [cell for cell in cells if cell["data"] == data and cell["task"] in COLOURED]
        played = list(dict.fromkeys(cell["task"] for cell in found))  # rotation+mae, say
        if any(TASKS[game].grayscale for name in played for game in name.split("+") if game in TASKS):
            base += [cell for cell in cells if cell["data"] == data and cell["task"] in GREY]
        probes, cores = found[0]["probes"], found[0]["machine"]["cores"]
        seeds = " ".join(map(str, sorted({cell["seed"] for cell in found})))
        command = f"python benchmarks/leaderboard.py --run {' '.join(played)} --data {data}=FOLDER --budget {budget:g}"
        parts.append(
            f"{data}, {budget:g} processor seconds ({minutes(budget, cores)}), `vit_micro` with a\n"
            f"convolutional stem, patches of 8 pixels; {probes['labels']:,} labels, {probes['test']:,} to test on.\n"
            f"Per cent right, mean and deviation over seeds:\n\n{table([*found, *base])}\n"
            f"`{command} --cores {cores} --seeds {seeds}`\n"
        )
    return "\n".join(parts)


def by_recipe(recipe: Recipe) -> str:
    """What a task's recipe says of optimizer, batch and length."""
    optim, batch = recipe.optim, recipe.batch_size
    force = "" if batch == 256 else f" ({optim.peak_lr(batch):g} in force)"
    decay = f"{optim.weight_decay:g}" + (
        f" to {optim.final_weight_decay:g}" if optim.final_weight_decay is not None else ""
    )
    method = {"muon": "Muon", "adamw": "AdamW"}[optim.method]
    return (
        f"By its recipe: {method} at {optim.lr:g} for 256 images, {batch} images a step{force}, "
        f"weight decay {decay}; {recipe.epochs} epochs\nwhere neither budget nor length is given.\n"
    )


def page_of(task: str) -> str:
    """The page in docs/tasks on which a task is told of."""
    return "combined" if "+" in task else task


def minutes(budget: float, cores: int) -> str:
    """What processor seconds are by the clock."""
    return f"{budget / 60 / cores:g} minutes of {'one core' if cores == 1 else f'{cores} cores'}"


def table(cells: list[dict[str, Any]]) -> str:
    """Rows by name: mean and deviation of each probe over seeds."""
    rows: Rows = defaultdict(list)
    for cell in cells:
        rows[f"{cell['task']} {cell['variant']}".strip()].append(cell)
    return markdown(
        ["", "seeds", *PROBES.values()],
        [[name, str(len(found)), *(probe_of(found, key) for key in PROBES)] for name, found in rows.items()],
    )


def leaderboard(rows: Rows) -> str:
    """Every row of a data set and budget: the best linear probe first, what has none (from scratch) last."""
    first = ordered(rows, "linear")
    names = [name for name, _ in first]
    found = [*first, *((name, cells) for name, cells in rows.items() if name not in names)]
    heads = ["task", "seeds", "processor", "steps", *PROBES.values()]
    return markdown(heads, [
        [
            name, str(len(cells)), ", ".join(sorted({cell["machine"]["processor"] for cell in cells})),
            mean_of(cells, "steps", 0), *(probe_of(cells, key) for key in PROBES),
        ]
        for name, cells in found
    ])  # fmt: skip


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    """A table as Markdown writes it."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]]) + "\n"


def overview(readme: Path, cells: list[dict[str, Any]]) -> None:
    """Write 20-NN and linear probe on CIFAR-10, after 360 processor seconds, behind every task measured so."""
    lines = readme.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        task = line.split("`")[1] if line.startswith("| [`") else ""
        key = (task, "cifar10", 360, "")
        rows = [c for c in cells if (c["task"], c["data"], c["budget"], c["variant"]) == key]
        if rows:
            numbers = " / ".join(probe_of(rows, name) for name in ("knn", "linear"))
            lines[number] = f"{line.rstrip('| ').rpartition(' |')[0]} | {numbers} |"
    readme.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
