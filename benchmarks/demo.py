"""Repeat the whole demo over seeds: drawing, splits, labels and pretraining all differ, so the interval covers them.

    python benchmarks/demo.py                                        # the tables of all measured cells
    python benchmarks/demo.py --run --seeds 100 101 102 103 104      # synthetic animals, five seeds
    python benchmarks/demo.py --run --data cifar10='cifar10/train-{0..4}.tar.gz' --seeds 100 101 102
    python benchmarks/demo.py --run --shuffle-labels --seeds 100     # a control: nothing can be gained

A cell is a small JSON file in ``benchmarks/cells/demo``: report.json of ``headway demo``, CPU seconds and the commit.
It is written when its run ends, and an existing cell is not measured again. With synthetic animals every seed draws its
own images, so the runs are independent, and the interval of the mean gain is Student's over seeds. With DATA the seeds
share the images and split them differently; the interval then covers splits, labels and pretrainings on these images.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from cells_io import CELLS, child_cpu_seconds, make_cell, read_cells
from rich.console import Console
from rich.table import Table
from scipy.stats import t

SYNTHETIC, TABLE_WIDTH = "drawn-animals", 150


def main() -> None:
    """Measure the missing cells, then print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="measure the missing cells")
    parser.add_argument("--data", default="", metavar="NAME=DATA", help="labeled images; none: synthetic animals")
    parser.add_argument("--budget", default="3m", help="time of each demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103, 104])
    parser.add_argument("--shuffle-labels", action="store_true")
    parser.add_argument("--cells", type=Path, default=CELLS / "demo")
    args = parser.parse_args()
    name, _, data = args.data.partition("=")
    if args.data and not data:
        parser.error("--data takes NAME=DATA, a name for the table and the images")
    for seed in args.seeds if args.run else []:
        words = [name or SYNTHETIC, args.budget, *(["shuffled"] if args.shuffle_labels else []), str(seed)]
        file = args.cells / f"{'_'.join(words)}.json"
        options = ["--budget", args.budget, "--seed", str(seed), *(["--data", data] if data else [])]
        options += ["--shuffle-labels"] if args.shuffle_labels else []
        make_cell(file, {"name": name or SYNTHETIC, "budget": args.budget}, partial(measure, options), "gain")
    for table in tables(read_cells(args.cells)):
        Console(width=TABLE_WIDTH).print(table)


def measure(options: list[str]) -> dict[str, Any]:
    """Run the demo: the content of a cell."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "demo"
        before = child_cpu_seconds()
        subprocess.run([sys.executable, "-m", "headway.cli", "demo", "--out", str(out), *options], check=True)
        cpu_seconds = child_cpu_seconds() - before
        report, record = (json.loads((out / file).read_text()) for file in ("report.json", "run/run.json"))
        steps = record["result"]["steps"]
    kept = {key: value for key, value in report.items() if key not in ("out", "commands", "data")}
    return {
        **kept, "pretraining_steps": steps, "commit": record["commit"], "environment": record["segments"][-1],
        "cpu_seconds": round(cpu_seconds, 1),
    }  # fmt: skip


def mean_gain(gains: list[float], level: float = 0.95) -> tuple[float, float, float]:
    """Mean gain of independent runs, and its Student interval, which is infinite for a single run."""
    if len(gains) < 2:
        return gains[0], float("-inf"), float("inf")
    half = t.ppf(0.5 + level / 2, len(gains) - 1) * stdev(gains) / len(gains) ** 0.5
    return mean(gains), mean(gains) - half, mean(gains) + half


def tables(cells: list[dict[str, Any]]) -> list[Table]:
    """A table for each data set, budget, kind of labels and version of the code: a row per seed, and the mean."""
    groups: dict[tuple[str, str, int | None, bool, str], list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        key = cell["name"], cell["budget"], cell["synthetic_version"], cell["shuffled_labels"], cell["commit"][:7]
        groups[key].append(cell)
    made = []
    for (name, budget, version, shuffled, commit), group in sorted(groups.items(), key=str):
        points, low, high = mean_gain([cell["gain"]["points"] for cell in group])
        verdict = "helped" if low > 0 else "hurt" if high < 0 else "cannot tell"
        summary = f"{points:+.1f} ({low:+.1f} to {high:+.1f})" if len(group) > 1 else f"{points:+.1f} (one seed)"
        about = f"{name}{f' version {version}' if version else ''}, {budget}{', labels shuffled' if shuffled else ''}"
        about += f", commit {commit}"
        table = Table(title=f"{about}: {summary} points over {len(group)} seeds: {verdict}")
        names = [row["name"] for row in group[0]["rows"]]
        for column in ("seed", *names, "gain", "method", "seconds", "CPU s"):
            table.add_column(column, justify="right")
        for cell in sorted(group, key=lambda cell: int(cell["seed"])):
            gain = cell["gain"]
            table.add_row(
                str(cell["seed"]), *(f"{row['accuracy']:.1f}" for row in cell["rows"]),
                f"{gain['points']:+.1f} ({gain['low']:+.1f} to {gain['high']:+.1f})", cell["method"],
                f"{cell['seconds']:.0f}", f"{cell['cpu_seconds']:.0f}",
            )  # fmt: skip
        means = [f"{mean(cell['rows'][i]['accuracy'] for cell in group):.1f}" for i in range(len(names))]
        table.add_section()
        table.add_row("mean", *means, summary, "", "", "")
        made.append(table)
    return made


if __name__ == "__main__":
    main()
