"""The measurements behind the backbone that ``auto`` chooses: each backbone for equal CPU seconds, frozen and probed.

    python benchmarks/networks.py --data cifar=DATA/train-1.tar.gz --choices vit_pico@32 vit_micro@32 --budgets 300 1200

Every run is ``headway pretrain auto`` with one backbone and one view size to choose from (BACKBONE@PIXELS); all other
rules apply. Half of the labels of the same images, with as many of each class, fit the probes, and the other half test
them; no test set is used. A cell is a small JSON file in ``benchmarks/cells/networks``; an existing cell is not
measured again.
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
from cells_io import CELLS, child_cpu_seconds, make_cell, processor_name, read_cells
from leaderboard import layer_features, load_store, probe_features
from rich.console import Console
from rich.table import Table
from tables import FEW_LABELS

from headway.data.sampling.split import stratified_split
from headway.downstream.head_swap import load_run

PRETRAIN = """
import sys
from headway.cli import main
from headway.train.plan import auto
backbone, view, temperature = sys.argv[1:4]
auto.BACKBONE_OPTIONS = tuple(option for option in auto.BACKBONE_OPTIONS if option.backbone == backbone)
auto.VIEW_SIZES, auto.TEMPERATURE = (int(view),), float(temperature or auto.TEMPERATURE)
sys.exit(main(["pretrain", "auto", *sys.argv[4:]]))
"""


def main() -> None:
    """Measure the missing cells, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=IMAGES", help="labeled images")
    parser.add_argument("--choices", nargs="+", default=[], metavar="BACKBONE@PIXELS")
    parser.add_argument("--budgets", type=float, nargs="+", default=[300], help="CPU seconds per pretraining")
    parser.add_argument("--cores", type=int, default=1, help="cores that the pretraining has to itself")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--temperature", default="", help="SimCLR's; none: the one of the rules")
    parser.add_argument("--cells", type=Path, default=CELLS / "networks")
    args = parser.parse_args()
    torch.set_num_threads(args.cores)
    for name, _, images in (pair.partition("=") for pair in args.data):
        for seed, budget, choice in ((s, b, c) for s in args.seeds for b in args.budgets for c in args.choices):
            key = {"choice": choice, "data": name, "budget": budget, "seed": seed, "temperature": args.temperature}
            words = [str(value) for value in key.values() if value != ""]
            work = partial(measure, choice, images, budget / args.cores, seed, args.temperature)
            make_cell(args.cells / f"{'_'.join(words)}.json", key, work, "probes")
    Console(width=140).print(table(read_cells(args.cells)))


def measure(choice: str, images: str, seconds: float, seed: int, temperature: str) -> dict[str, Any]:
    """Train, freeze and probe: the content of a cell."""
    backbone_name, _, view = choice.partition("@")
    with tempfile.TemporaryDirectory() as scratch:
        words = [sys.executable, "-c", PRETRAIN, backbone_name, view, temperature, "--data", images, "--json"]
        words += ["--out", f"{scratch}/run", "--budget", f"{seconds:g}s", "--seed", str(seed)]
        before = child_cpu_seconds()
        answer = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
        cpu_seconds = child_cpu_seconds() - before
        record = json.loads(Path(scratch, "run", "run.json").read_text())
        backbone, _ = load_run(Path(scratch) / "run")
    store = load_store(Path(images), int(view))
    assert store.labels is not None
    halves = stratified_split(store.labels, seed=0, fraction=0.5)
    labeled, test = (store._replace(images=store.images[rows], labels=store.labels[rows]) for rows in halves)
    banks = [layer_features(backbone, half.images, int(view)) for half in (labeled, test)]
    plan, num_images = record["plan"], len(store.images)
    return {
        "machine": processor_name(), "torch": torch.__version__, "commit": record["commit"],
        "cpu_seconds": round(cpu_seconds, 1), "plan": plan,
        "passes": round(plan["steps"] * plan["batch_size"] / num_images, 1), "images": num_images,
        **json.loads(answer.splitlines()[-1]), "run": None,
        "probes": probe_features(banks[0], banks[1], labeled, test),
    }  # fmt: skip


def table(cells: list[dict[str, Any]]) -> Table:
    """A row per cell."""
    made = Table(title="backbones for equal CPU seconds")
    for column in ("data", "backbone", "seconds", "seed", "other", "passes", "ms per image", "20-NN", "linear"):
        made.add_column(column, no_wrap=True)
    made.add_column("10 per class", no_wrap=True)
    for cell in sorted(cells, key=lambda cell: (cell["data"], cell["budget"], cell["choice"])):
        ms_per_image = 1e3 * cell["cpu_seconds"] / (cell["passes"] * cell["images"])
        other = f"temperature {cell['temperature']}" if cell["temperature"] else ""
        row = [f"{cell['budget']:g}", cell["seed"], other, cell["passes"], f"{ms_per_image:.2f}"]
        probes = [str(cell["probes"][name]) for name in ("knn", "linear", FEW_LABELS)]
        made.add_row(cell["data"], cell["choice"], *map(str, row), *probes)
    return made


if __name__ == "__main__":
    main()
