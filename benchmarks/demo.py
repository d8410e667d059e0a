"""The whole demo over seeds: drawing, splits, labels and pretraining all differ, so that the claim covers them all.

    python benchmarks/demo.py                                        # the tables of what has been measured
    python benchmarks/demo.py --run --seeds 100 101 102 103 104      # drawn animals, five seeds
    python benchmarks/demo.py --run --data cifar10='cifar10/train-{0..4}.tar.gz' --seeds 100 101 102
    python benchmarks/demo.py --run --shuffle-labels --seeds 100     # there is nothing to gain then

A cell is a small JSON file in ``benchmarks/cells/demo``: what ``headway demo`` wrote to report.json, processor seconds
and the commit. It is written when its run ends, and a finished one isn't run again. With drawn animals every seed
draws images of its own, which makes runs independent: the interval of the mean gain is Student's over seeds. With
DATA seeds share the images and split them otherwise; the interval then covers splits, labels and pretrainings on
these images.
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

from kept import FOLDER, make, processor_seconds, read
from rich.console import Console
from rich.table import Table
from scipy.stats import t

DRAWN, WIDTH = "drawn-animals", 150


def main() -> None:
    """Make the cells that are missing, then print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="make the cells that are missing")
    parser.add_argument("--data", default="", metavar="NAME=DATA", help="labeled images; none: drawn animals")
    parser.add_argument("--budget", default="3m", help="of each demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103, 104])
    parser.add_argument("--shuffle-labels", action="store_true")
    parser.add_argument("--cells", type=Path, default=FOLDER / "demo")
    a = parser.parse_args()
    name, _, data = a.data.partition("=")
    if a.data and not data:
        parser.error("--data takes NAME=DATA, a name for the table and the images")
    for seed in a.seeds if a.run else []:
        words = [name or DRAWN, a.budget, *(["shuffled"] if a.shuffle_labels else []), str(seed)]
        file = a.cells / f"{'_'.join(words)}.json"
        options = ["--budget", a.budget, "--seed", str(seed), *(["--data", data] if data else [])]
        options += ["--shuffle-labels"] if a.shuffle_labels else []
        make(file, {"name": name or DRAWN, "budget": a.budget}, partial(measure, options), "gain")
    for table in tables(read(a.cells)):
        Console(width=WIDTH).print(table)


def measure(options: list[str]) -> dict[str, Any]:
    """Run the demo: what goes into a cell."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "demo"
        before = processor_seconds()
        subprocess.run([sys.executable, "-m", "headway.cli", "demo", "--out", str(out), *options], check=True)
        spent = processor_seconds() - before
        report, record = (json.loads((out / file).read_text()) for file in ("report.json", "run/run.json"))
        steps = record["result"]["steps"]
    kept = {key: value for key, value in report.items() if key not in ("out", "commands", "data")}
    return {
        **kept, "pretraining_steps": steps, "commit": record["commit"], "ran": record["segments"][-1],
        "processor_seconds": round(spent, 1),
    }  # fmt: skip


def over_seeds(gains: list[float], level: float = 0.95) -> tuple[float, float, float]:
    """Mean of independent runs' gains and Student's interval of it; of one run the interval is without end."""
    if len(gains) < 2:
        return gains[0], float("-inf"), float("inf")
    half = t.ppf(0.5 + level / 2, len(gains) - 1) * stdev(gains) / len(gains) ** 0.5
    return mean(gains), mean(gains) - half, mean(gains) + half


def tables(cells: list[dict[str, Any]]) -> list[Table]:
    """A table for each data set, budget and kind of labels: a row a seed, and what all of them say."""
    groups: dict[tuple[str, str, int | None, bool], list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        groups[cell["name"], cell["budget"], cell["synthetic_version"], cell["shuffled_labels"]].append(cell)
    made = []
    for (name, budget, version, shuffled), found in sorted(groups.items(), key=str):
        points, low, high = over_seeds([cell["gain"]["points"] for cell in found])
        verdict = "helped" if low > 0 else "hurt" if high < 0 else "cannot tell"
        whole = f"{points:+.1f} ({low:+.1f} to {high:+.1f})" if len(found) > 1 else f"{points:+.1f} (one seed)"
        about = f"{name}{f' version {version}' if version else ''}, {budget}{', labels shuffled' if shuffled else ''}"
        table = Table(title=f"{about}: {whole} points over {len(found)} seeds: {verdict}")
        names = [row["name"] for row in found[0]["rows"]]
        for column in ("seed", *names, "gain", "judged by", "seconds", "processor s"):
            table.add_column(column, justify="right")
        for cell in sorted(found, key=lambda cell: int(cell["seed"])):
            gain = cell["gain"]
            table.add_row(
                str(cell["seed"]), *(f"{row['accuracy']:.1f}" for row in cell["rows"]),
                f"{gain['points']:+.1f} ({gain['low']:+.1f} to {gain['high']:+.1f})", cell["method"],
                f"{cell['seconds']:.0f}", f"{cell['processor_seconds']:.0f}",
            )  # fmt: skip
        means = [f"{mean(cell['rows'][i]['accuracy'] for cell in found):.1f}" for i in range(len(names))]
        table.add_section()
        table.add_row("mean", *means, whole, "", "", "")
        made.append(table)
    return made


if __name__ == "__main__":
    main()
