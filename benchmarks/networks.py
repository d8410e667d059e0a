"""What ``auto`` goes by when it chooses a network: each of them for equal processor seconds, frozen and probed.

    python benchmarks/networks.py --data cifar=DATA/train-1.tar.gz --choices vit_pico@32 vit_micro@32 --budgets 300 1200

Every run is ``headway pretrain auto`` that has one network and one view to choose from (NETWORK@PIXELS), by all of its
other rules. Half of the labels of the same images, as many of each class, train the probes, and the other half test
them: no test set has a part in it. A cell is a small JSON file in ``benchmarks/cells/networks``; a finished one isn't
run again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from kept import FOLDER, make, processor, processor_seconds, read
from leaderboard import described, probes, stored
from rich.console import Console
from rich.table import Table

from headway.data.sampling.split import stratified_split
from headway.downstream.head_swap import load_run

PRETRAIN = """
import sys
from headway.cli import main
from headway.train import auto
network, view, temperature = sys.argv[1:4]
auto.NETWORKS = tuple(one for one in auto.NETWORKS if one.backbone == network)
auto.VIEWS, auto.TEMPERATURE = (int(view),), float(temperature or auto.TEMPERATURE)
main(["pretrain", "auto", *sys.argv[4:]])
"""


def main() -> None:
    """Make the cells that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=PICTURES", help="labeled images")
    parser.add_argument("--choices", nargs="+", default=[], metavar="NETWORK@PIXELS")
    parser.add_argument("--budgets", type=float, nargs="+", default=[300], help="processor seconds of a pretraining")
    parser.add_argument("--cores", type=int, default=1, help="cores that the pretraining has for itself")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--temperature", default="", help="SimCLR's; none: the one of the rules")
    parser.add_argument("--cells", type=Path, default=FOLDER / "networks")
    a = parser.parse_args()
    torch.set_num_threads(a.cores)
    for name, _, pictures in (pair.partition("=") for pair in a.data):
        for seed, budget, choice in ((s, b, c) for s in a.seeds for b in a.budgets for c in a.choices):
            cell = {"choice": choice, "data": name, "budget": budget, "seed": seed, "temperature": a.temperature}
            words = [str(value) for value in cell.values() if value != ""]
            work = partial(measure, choice, pictures, budget / a.cores, seed, a.temperature)
            make(a.cells / f"{'_'.join(words)}.json", cell, work, "probes")
    Console(width=130).print(table(read(a.cells)))


def measure(choice: str, pictures: str, seconds: float, seed: int, temperature: str) -> dict[str, Any]:
    """Train, freeze and probe: what goes into a cell."""
    network, _, view = choice.partition("@")
    with tempfile.TemporaryDirectory() as scratch:
        words = [sys.executable, "-c", PRETRAIN, network, view, temperature, "--data", pictures, "--json"]
        words += ["--out", f"{scratch}/run", "--budget", f"{seconds:g}s", "--seed", str(seed)]
        before = processor_seconds()
        answer = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
        spent = processor_seconds() - before
        record = json.loads(Path(scratch, "run", "run.json").read_text())
        backbone, _ = load_run(Path(scratch) / "run")
    store = stored(Path(pictures), int(view))
    assert store.labels is not None
    halves = stratified_split(store.labels, seed=0, fraction=0.5)
    known, asked = (store._replace(images=store.images[rows], labels=store.labels[rows]) for rows in halves)
    banks = [described(backbone, half.images, int(view)) for half in (known, asked)]
    plan, count = record["plan"], len(store.images)
    return {
        "machine": processor(), "torch": torch.__version__, "commit": record["commit"],
        "processor_seconds": round(spent, 1), "plan": plan, "passes": round(plan["steps"] * plan["batch"] / count, 1),
        "pictures": count, **json.loads(answer.splitlines()[-1]), "run": None, "probes": probes(*banks, known, asked),
    }  # fmt: skip


def table(cells: list[dict[str, Any]]) -> Table:
    """A row a cell."""
    made = Table(title="networks for equal processor seconds")
    for column in ("data", "network", "seconds", "seed", "other", "passes", "ms an image", "20-NN", "linear", "ten"):
        made.add_column(column, no_wrap=True)
    for cell in sorted(cells, key=lambda one: (one["data"], one["budget"], one["choice"])):
        found, each = cell["probes"], 1e3 * cell["processor_seconds"] / (cell["passes"] * cell["pictures"])
        other = f"temperature {cell['temperature']}" if cell["temperature"] else ""
        row = [f"{cell['budget']:g}", cell["seed"], other, cell["passes"], f"{each:.2f}"]
        made.add_row(cell["data"], cell["choice"], *map(str, row), *(str(found[k]) for k in ("knn", "linear", "ten")))
    return made


if __name__ == "__main__":
    main()
