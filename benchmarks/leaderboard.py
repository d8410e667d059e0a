"""Every table of tasks: task x data x budget x seed -> probes on frozen features, each cell computed once.

    python benchmarks/leaderboard.py                                          # the table of what has been measured
    python benchmarks/leaderboard.py --run rotation jigsaw --data cifar10=DATA --budget 360 --seeds 0 1 2

A cell is a small JSON file in ``benchmarks/cells``; it is written when it ends, and a finished one isn't run again. The
budget is in processor seconds: 360 are three minutes on two cores, or six on the one that ``--cores 1`` says is free.
Every task trains the same backbone (``vit_micro``, convolutional stem, patches of 8 pixels) by its own recipe. Its
features are then frozen and probed with labels: 20-NN and a linear probe on the last layer, a linear probe on the layer
that does best on a fifth of the training labels, and a linear probe on ten labels a class (mean of five draws). The
test images choose nothing. ``untrained`` is the same backbone before its first step, ``raw pixels`` none at all; each
has a twin in gray, beside which a task that sees no colors (colorization) should be read. ``from scratch`` trains that
backbone on ten labels a class alone, at a learning rate that folds of them choose, as ``headway compare`` does.

Each backbone is also measured without labels (``headway rank``), on images it may train on; the table says how well
those measures order the runs whose linear probe is known (``--trust FILE`` writes it down, for ``headway rank``).

DATA is a folder that holds train (a folder, tar or tars) and test in the layout that DATASETS below names; a data set
called NAME-dev tests on training images held out, for whoever works on a recipe (tiny-animals64-dev: a folder whose
test.tar is a fifth of each class in train.tar, and whose train.tar is the rest).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from kept import FOLDER, make, processor, processor_seconds, read
from rich.console import Console
from rich.progress import track
from standings import grouped, tables, trust
from torch import Tensor

from headway.backbones.build import build_backbone
from headway.data.dataset.channel_statistics import channel_statistics
from headway.data.dataset.image_store import ImageStore, build_store, split_groups
from headway.data.dataset.subset import subsample_evenly
from headway.data.open import open_source
from headway.data.sampling.split import sample_per_class, stratified_split
from headway.downstream.features.extract import FORWARD_BATCH_SIZE
from headway.downstream.finetuning.finetune import FineTuneConfig
from headway.downstream.head_swap import load_run
from headway.downstream.labeled_split import LabeledSplit
from headway.evaluation.label_free import MAX_IMAGES, label_free_metrics
from headway.evaluation.methods import (
    SCRATCH,
    SCRATCH_CONFIG,
    TrainAndTest,
    choose_lr_factor,
    reinitialize,
    scale_lr,
    trained_method,
)
from headway.metrics.intervals import accuracy
from headway.metrics.knn import knn_accuracy
from headway.metrics.linear_probe import linear_probe
from headway.transforms.color import to_grayscale
from headway.transforms.geometry import center_crop_resize, to_float01
from headway.utils.files import write_json
from headway.utils.hashing import stable_hash

PIXELS, UNTRAINED, IN_GREY = "raw pixels", "untrained", " in gray"
BASELINES = (SCRATCH, *(name + look for name in (PIXELS, UNTRAINED) for look in ("", IN_GREY)))
MODEL = ("--backbone", "vit_micro", "--stem", "conv", "--patch", "8")
DRAWS, SHOTS, WIDTH = 5, 10, 110


class Data(NamedTuple):
    """Where images lie in a data set's folder: those to learn from, those with labels, those to test on."""

    pool: str
    labels: str
    test: str
    size: int


DATASETS = {
    "cifar10": Data("train-{0..4}.tar.gz", "train-0.tar.gz", "test.tar.gz", 32),
    "cifar10-dev": Data("train-{0..3}.tar.gz", "train-0.tar.gz", "train-4.tar.gz", 32),
    "tiny-animals64": Data("train.tar", "train.tar", "test.tar", 64),
    "tiny-animals64-dev": Data("train.tar", "train.tar", "test.tar", 64),
}


def main() -> None:
    """Make the cells that are missing, then print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs="+", default=[], metavar="TASK", help=f"a task, or of {BASELINES}")
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=FOLDER", help=f"NAME in {', '.join(DATASETS)}")
    parser.add_argument("--budget", type=float, default=360, help="processor seconds of a pretraining")
    parser.add_argument("--cores", type=int, default=2, help="cores that the pretraining has for itself")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cells", type=Path, default=FOLDER)
    parser.add_argument("--variant", default="", help="a name for what follows --")
    parser.add_argument("--trust", type=Path, help="where to write how well label-free measures order the runs")
    parser.add_argument("options", nargs="*", help="after --: further options of headway pretrain")
    a = parser.parse_args()
    torch.set_num_threads(a.cores)
    for pair in a.data:
        name, _, folder = pair.partition("=")
        for seed in a.seeds:
            for task in a.run:
                cell = {"task": task, "data": name, "budget": 0 if task in BASELINES else a.budget}
                cell |= {"seed": seed, "variant": a.variant}
                words = [str(value).replace(" ", "-").replace("+", "_") for value in cell.values() if value != ""]
                file = a.cells / f"{'_'.join(words)}.json"
                make(file, cell, partial(measure, task, name, Path(folder), a, seed), "probes")
    cells = read(a.cells)
    for table in tables(cells):
        Console(width=WIDTH).print(table)
    if a.trust:
        measured = [found for _, rows in sorted(grouped(cells).items()) if (found := trust(rows))]
        write_json(a.trust, {"source": "benchmarks/leaderboard.py --trust", "reference": measured})


def measure(task: str, name: str, folder: Path, arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train, freeze and probe: what goes into a cell."""
    where = DATASETS[name]
    labelled, test = (stored(folder / part, where.size) for part in (where.labels, where.test))
    machine = {"processor": processor(), "cores": arguments.cores, "torch": torch.__version__}
    grey = task.endswith(IN_GREY)
    if task.startswith(PIXELS):
        rows = [center_crop_resize(to_float01(store.images), 32) for store in (labelled, test)]  # N 3 32 32 each
        rows = [(to_grayscale(images) if grey else images).flatten(1) for images in rows]
        return {"machine": machine, "probes": probes([rows[0]], [rows[1]], labelled, test)}
    if task in BASELINES:
        torch.manual_seed(seed)
        inputs = channel_statistics(labelled.images)._replace(grayscale=grey)
        backbone = build_backbone(MODEL[1], size=where.size, stem=MODEL[3], patch_size=int(MODEL[5]), input_spec=inputs)
        if task == SCRATCH:
            return {"machine": machine, "probes": from_scratch(backbone, labelled, test, where.size, seed)}
        return {"machine": machine, **probe_backbone(backbone, labelled, test, where.size)}
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        words = [sys.executable, "-m", "headway.cli", "pretrain", task, "--data", str(folder / where.pool)]
        words += ["--out", str(run), *MODEL, "--size", str(where.size), "--seed", str(seed), "--json"]
        words += ["--budget", f"{arguments.budget / arguments.cores:g}s", *arguments.options]
        before = processor_seconds()
        answer = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
        spent = processor_seconds() - before
        record = json.loads((run / "run.json").read_text())
        backbone, _ = load_run(run)
        return {
            "machine": machine, "commit": record["commit"], "options": arguments.options,
            "processor_seconds": round(spent, 1), **json.loads(answer.splitlines()[-1]), "run": None,
            **probe_backbone(backbone, labelled, test, where.size),
        }  # fmt: skip


def probe_backbone(backbone: Any, labelled: ImageStore, test: ImageStore, size: int) -> dict[str, Any]:
    """The probes on every layer of a frozen backbone, the last being what it gives; and what is said without labels."""
    banks = [described(backbone, store.images, size) for store in (labelled, test)]
    plain = label_free_metrics(backbone, subsample_evenly(labelled.images, MAX_IMAGES), size)._asdict()
    return {
        "probes": probes(banks[0], banks[1], labelled, test),
        "label_free": {name: round(value, 4) for name, value in plain.items()},
    }


def from_scratch(backbone: Any, labelled: ImageStore, test: ImageStore, size: int, seed: int) -> dict[str, Any]:
    """What is right in per cent where the same backbone is trained on ten labels a class alone."""
    assert labelled.labels is not None
    pictures = LabeledSplit(
        labelled.images, labelled.labels, test.images, asked(labelled, test), labelled.classes, False, [],
        test.content_hashes, split_groups(labelled),
    )  # fmt: skip

    def make(choices: FineTuneConfig) -> TrainAndTest:
        return trained_method(pictures, lambda drawn: reinitialize(backbone, drawn), size, choices, SCRATCH)

    draws = [sample_per_class(pictures.labels, SHOTS, seed=draw) for draw in range(DRAWS)]
    factor = choose_lr_factor(make, SCRATCH_CONFIG, pictures, draws[0], stable_hash("rate", seed))
    learnt = make(scale_lr(SCRATCH_CONFIG, factor))
    few = [accuracy(learnt(chosen, None, stable_hash("training", seed, draw))) for draw, chosen in enumerate(draws)]
    return {"ten": round(mean(few), 2), "factor": factor, "test": len(test.images)}


def asked(labelled: ImageStore, test: ImageStore) -> Tensor:
    """N, int64: the labels of test images, numbered as those that are learned from."""
    assert test.labels is not None
    return torch.tensor([labelled.classes.index(name) for name in test.classes])[test.labels]


def probes(bank: list[Tensor], queries: list[Tensor], labelled: ImageStore, test: ImageStore) -> dict[str, Any]:
    """What is right in per cent, from features of labeled and test images, a tensor (N D) for each layer."""
    labels, classes, wanted = labelled.labels, len(labelled.classes), asked(labelled, test)
    assert labels is not None

    def right(layer: int, rows: Tensor | slice, ask: Tensor, answers: Tensor) -> float:
        probe, _ = linear_probe(bank[layer][rows], labels[rows], classes)
        return accuracy(probe.logits(ask).argmax(1) == answers)

    train, held = stratified_split(labels, seed=0)
    scores = [right(i, train, bank[i][held], labels[held]) for i in range(len(bank))] if len(bank) > 1 else [0.0]
    best = max(range(len(bank)), key=scores.__getitem__)
    few = [right(-1, sample_per_class(labels, SHOTS, seed=draw), queries[-1], wanted) for draw in range(DRAWS)]
    last = right(-1, slice(None), queries[-1], wanted)
    return {
        "knn": round(knn_accuracy(bank[-1], labels, queries[-1], wanted, classes), 2), "linear": round(last, 2),
        "best layer": best, "layers": len(bank),
        "best": round(last if best == len(bank) - 1 else right(best, slice(None), queries[best], wanted), 2),
        "ten": round(mean(few), 2), "labels": len(labels), "test": len(wanted),
    }  # fmt: skip


@torch.no_grad()
def described(backbone: Any, images: Tensor, size: int) -> list[Tensor]:
    """The mean of the patches after each block but the last, where these are shown, then what is given: N D each."""
    wanted = range(backbone.depth - 1) if "layers" in backbone.supports else ()
    rows = []
    for chunk in track(images.split(FORWARD_BATCH_SIZE), description="features", transient=True):
        found = backbone.eval()(center_crop_resize(to_float01(chunk), size), return_layers=wanted)
        first = found.prefix.shape[1]
        rows.append([*(layer[:, first:].mean(1) for layer in found.layers), found.pooled])  # B D each
    return [torch.cat(parts) for parts in zip(*rows, strict=True)]  # N D each


def stored(path: Path, side: int) -> ImageStore:
    """Labeled images, decoded once."""
    return build_store(open_source(str(path), labeled=True), side)


if __name__ == "__main__":
    main()
