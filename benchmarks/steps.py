"""What more steps of training on few labels are worth, from scratch and from a pretrained backbone.

    python benchmarks/steps.py                                                     # the table of all measured cells
    python benchmarks/steps.py --run headway-demo/run --seed 77 --name drawn-77 --side scratch --steps 400 800 1600
    python benchmarks/steps.py --run headway-demo/run --seed 77 --name drawn-77 --side tuned --method muon --lr 4e-3

A comparison with training from scratch is fair where more steps do not help that side. RUN is the run of
``headway demo --seed SEED``, whose synthetic animals are drawn again. Labels are drawn from the demo's pretraining
images, and accuracy is measured on other ones of these images. The images that the demo tests on are never used, so
settings may be selected by these results. A cell is a JSON file in ``benchmarks/cells/steps``; an existing cell is not
measured again.
"""

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from cells_io import CELLS, make_cell, processor_name, read_cells
from rich.console import Console
from rich.table import Table

from headway.data.dataset.image_store import build_store
from headway.data.sampling.split import sample_per_class, stratified_split
from headway.downstream.head_swap import load_run
from headway.downstream.heads.registry import HEADS
from headway.downstream.labeled_split import LabeledSplit
from headway.evaluation.demo.settings import NUM_SYNTHETIC, SYNTHETIC_SIZE
from headway.evaluation.evaluator import Evaluator
from headway.evaluation.methods import SCRATCH_HEAD, Method, fixed, scratch_method, with_steps
from headway.metrics.intervals import accuracy
from headway.synthetic import DrawnAnimals

SIDES = {"scratch": SCRATCH_HEAD, "tuned": HEADS["finetune"]}


def main() -> None:
    """Measure the missing cells, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="the run of a demo")
    parser.add_argument("--seed", type=int, default=77, help="the seed of that demo")
    parser.add_argument("--name", default="drawn", help="the name of that run in the table")
    parser.add_argument("--side", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--method", choices=("adamw", "muon"))
    parser.add_argument("--lr", type=float, nargs="+", help="peak learning rates, whatever the batch size")
    parser.add_argument("--steps", type=int, nargs="+", default=[100])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--layer-decay", type=float, help="factor on the learning rate from layer to layer")
    parser.add_argument("--labels-per-class", type=int, default=10)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--cells", type=Path, default=CELLS / "steps")
    args = parser.parse_args()
    if args.run:
        (backbone, _), split = load_run(args.run), demo_split(args.seed)
        for side in args.side:
            config = SIDES[side].recipe
            assert config is not None
            for lr in args.lr or [config.optim.peak_lr(config.batch_size)]:
                for steps in args.steps:
                    key = {
                        "name": args.name, "side": side, "method": args.method or config.optim.method, "lr": lr,
                        "layer_decay": args.layer_decay or config.layer_decay, "batch_size": args.batch_size,
                        "labels_per_class": args.labels_per_class, "steps": steps,
                    }  # fmt: skip
                    file = args.cells / f"{'_'.join(f'{value}' for value in key.values())}.json"
                    make_cell(file, key, partial(measure, key, backbone, split, args.draws), "accuracies")
    Console(width=120).print(table(read_cells(args.cells)))


def demo_split(seed: int) -> LabeledSplit:
    """The pretraining images of the demo with this seed: a fifth of them to test on, the others to draw labels from."""
    store = build_store(DrawnAnimals(NUM_SYNTHETIC, SYNTHETIC_SIZE, seed), SYNTHETIC_SIZE)
    assert store.labels is not None
    unlabeled, _ = stratified_split(store.labels, seed=seed)
    train, held_out = stratified_split(store.labels[unlabeled], seed=seed)
    train, held_out = unlabeled[train], unlabeled[held_out]
    return LabeledSplit(
        store.images[train], store.labels[train], store.images[held_out], store.labels[held_out], store.classes, False,
        [], store.content_hashes[held_out], None,
    )  # fmt: skip


def measure(key: dict[str, Any], backbone: Any, split: LabeledSplit, num_draws: int) -> dict[str, Any]:
    """Train on some draws of labels: accuracy in per cent of each, and the mean seconds of one."""
    head, config = SIDES[key["side"]], SIDES[key["side"]].recipe
    assert config is not None
    lr = key["lr"] * 256 / key["batch_size"]
    config = replace(config, batch_size=key["batch_size"], layer_decay=key["layer_decay"])
    config = replace(config, optim=replace(config.optim, method=key["method"], lr=lr))
    head = with_steps(replace(head, recipe=config), key["steps"])
    method = (
        scratch_method(fixed(backbone), head) if key["side"] == "scratch" else Method("tuned", fixed(backbone), head)
    )
    evaluator = Evaluator(split, folds=0)
    start, accuracies = time.perf_counter(), []
    for draw in range(num_draws):
        indices = sample_per_class(split.labels, key["labels_per_class"], seed=draw)
        accuracies.append(round(accuracy(evaluator.score(method, indices, draw).correct), 2))
    machine = {"processor": processor_name(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    seconds = round((time.perf_counter() - start) / num_draws, 1)
    return {"machine": machine, "seconds": seconds, "accuracies": accuracies}


def table(cells: list[dict[str, Any]]) -> Table:
    """A row per cell."""
    names = ("name", "side", "method", "lr", "layer_decay", "batch_size", "labels_per_class", "steps")
    made = Table(*names, "accuracy, %", "of draws", "seconds", title="training on few labels, by steps")
    for cell in sorted(cells, key=lambda cell: tuple(str(cell[name]).zfill(8) for name in names)):
        made.add_row(
            *(f"{cell[name]}" for name in names), f"{mean(cell['accuracies']):.1f}",
            " ".join(f"{x:.1f}" for x in cell["accuracies"]), f"{cell['seconds']:.0f}",
        )  # fmt: skip
    return made


if __name__ == "__main__":
    main()
