"""How far training on few labels gets with more steps, from scratch and from a pretrained backbone.

    python benchmarks/steps.py                                                     # the table of what was measured
    python benchmarks/steps.py --run headway-demo/run --seed 77 --name drawn-77 --side scratch --steps 400 800 1600
    python benchmarks/steps.py --run headway-demo/run --seed 77 --name drawn-77 --side tuned --method muon --lr 4e-3

A comparison with training from scratch is fair where more steps would not help that side any more. RUN is what
``headway demo --seed SEED`` left; its drawn animals are drawn again. Labels are drawn from its pool, and what is told
right is counted on other images of that pool: the images that the demo tests on are never looked at, so that
settings may be chosen by this. A cell is a JSON file in ``benchmarks/cells/steps``, and a finished one isn't run again.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from kept import FOLDER, make, processor, read
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from headway.cli.demo import NUM_SYNTHETIC, SYNTHETIC_SIZE
from headway.data.dataset.image_store import build_store
from headway.data.sampling.split import sample_per_class, stratified_split
from headway.downstream.finetuning.finetune import FINE_TUNE, FROM_SCRATCH
from headway.downstream.head_swap import input_size, load_run
from headway.downstream.labeled_split import LabeledSplit
from headway.evaluation.methods import SCRATCH, reinitialize, trained_method, with_steps
from headway.metrics.intervals import accuracy
from headway.synthetic import DrawnAnimals

SIDES = {"scratch": FROM_SCRATCH, "tuned": FINE_TUNE}


def main() -> None:
    """Make the cells that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="the run of a demo")
    parser.add_argument("--seed", type=int, default=77, help="of that demo")
    parser.add_argument("--name", default="drawn", help="of that run, for the table")
    parser.add_argument("--side", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--method", choices=("adamw", "muon"))
    parser.add_argument("--lr", type=float, nargs="+", help="in force, whatever the batch")
    parser.add_argument("--steps", type=int, nargs="+", default=[100])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--decay", type=float, help="of rates from layer to layer")
    parser.add_argument("--labels-per-class", type=int, default=10)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--cells", type=Path, default=FOLDER / "steps")
    a = parser.parse_args()
    if a.run:
        (backbone, _), pictures = load_run(a.run), pool_of(a.seed)
        for side in a.side:
            recipe = SIDES[side]
            for lr in a.lr or [recipe.optim.peak_lr(recipe.batch_size)]:
                for steps in a.steps:
                    cell = {
                        "name": a.name, "side": side, "method": a.method or recipe.optim.method, "lr": lr,
                        "layer_decay": a.decay or recipe.layer_decay, "batch": a.batch_size, "labels_per_class": a.labels_per_class,
                        "steps": steps,
                    }  # fmt: skip
                    file = a.cells / f"{'_'.join(f'{value}' for value in cell.values())}.json"
                    make(file, cell, partial(measure, cell, backbone, pictures, a.draws), "right")
    Console(width=120).print(table(read(a.cells)))


def pool_of(seed: int) -> LabeledSplit:
    """The pool of the demo of this seed: a fifth of it stands for test images, labels are drawn of the rest."""
    store = build_store(DrawnAnimals(NUM_SYNTHETIC, SYNTHETIC_SIZE, seed), SYNTHETIC_SIZE)
    assert store.labels is not None
    pool, _ = stratified_split(store.labels, seed=seed)
    learn, held = stratified_split(store.labels[pool], seed=seed)
    learn, held = pool[learn], pool[held]
    return LabeledSplit(
        store.images[learn], store.labels[learn], store.images[held], store.labels[held], store.classes, False, [],
        store.content_hashes[held], None,
    )  # fmt: skip


def measure(cell: dict[str, Any], backbone: Any, pictures: LabeledSplit, draws: int) -> dict[str, Any]:
    """Train on some draws of labels; per cent right of each, and the seconds that one took."""
    recipe = SIDES[cell["side"]]
    lr = cell["lr"] * 256 / cell["batch"]
    recipe = replace(recipe, batch_size=cell["batch"], layer_decay=cell["layer_decay"])
    recipe = replace(recipe, optim=replace(recipe.optim, method=cell["method"], lr=lr))
    starts: dict[str, Callable[[int], nn.Module]] = {
        "scratch": partial(reinitialize, backbone),
        "tuned": lambda _: backbone,
    }
    trial = trained_method(
        pictures, starts[cell["side"]], input_size(backbone), with_steps(recipe, cell["steps"]),
        SCRATCH if cell["side"] == "scratch" else "finetune",
    )  # fmt: skip
    began, right = time.perf_counter(), []
    for draw in range(draws):
        chosen: Tensor = sample_per_class(pictures.labels, cell["labels_per_class"], seed=draw)
        right.append(round(accuracy(trial(chosen, None, draw)), 2))
    machine = {"processor": processor(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    return {"machine": machine, "seconds": round((time.perf_counter() - began) / draws, 1), "right": right}


def table(cells: list[dict[str, Any]]) -> Table:
    """A row a cell."""
    names = ("name", "side", "method", "lr", "layer_decay", "batch", "labels_per_class", "steps")
    made = Table(*names, "right, %", "of draws", "seconds", title="training on few labels, by steps")
    for cell in sorted(cells, key=lambda cell: tuple(str(cell[name]).zfill(8) for name in names)):
        made.add_row(
            *(f"{cell[name]}" for name in names), f"{mean(cell['right']):.1f}",
            " ".join(f"{x:.1f}" for x in cell["right"]), f"{cell['seconds']:.0f}",
        )  # fmt: skip
    return made


if __name__ == "__main__":
    main()
