"""The leaderboard: task x data x budget x seed -> probes on frozen features. Each cell is computed once.

    python benchmarks/leaderboard.py                                          # the tables of all measured cells
    python benchmarks/leaderboard.py --run rotation jigsaw --data cifar10=DATA --budget 360 --seeds 0 1 2

A cell is a small JSON file in ``benchmarks/cells``. It is written when its measurement ends, and an existing cell is
not measured again. The budget is in CPU seconds: 360 are three minutes of two cores, or six minutes of one core
(``--cores 1``). Every task trains the same backbone (``vit_micro``, convolutional stem, patches of 8 pixels) by its own
recipe. The features are then frozen and probed with labels: 20-NN and a linear probe on the last layer; a linear probe
on the layer that has the highest accuracy on a held-out fifth of the training labels; and a linear probe with ten
labels per class (mean of five draws). The test images select nothing. ``untrained`` is the same backbone before its
first step; ``raw pixels`` uses no network. Each of the two has a row in grayscale, with which a task that sees no
colors (colorization) should be compared. ``from scratch`` trains the backbone on ten labels per class alone; its
learning rate is selected on folds of them, as in ``headway compare``.

Each backbone is also measured without labels (``headway rank``), on images that it may train on. The tables state how
well these metrics order the runs by their linear probe; ``--trust FILE`` writes that for ``headway rank``.

DATA is a folder that holds train (a folder, a tar or several tars) and test in the layout of DATASETS below. A data
set called NAME-dev is tested on held-out training images, so that recipes can be tuned on it (tiny-animals64-dev: a
folder whose test.tar holds a fifth of each class of train.tar, and whose train.tar holds the rest).
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
from cells_io import CELLS, child_cpu_seconds, make_cell, processor_name, read_cells
from rich.console import Console
from rich.progress import track
from tables import FEW_LABELS, correlation_summary, group_rows, leaderboard_tables
from torch import Tensor

from headway.backbones.build import build_backbone
from headway.backbones.extract import FORWARD_BATCH_SIZE
from headway.data.dataset.channel_statistics import channel_statistics
from headway.data.dataset.image_store import ImageStore, build_store, split_groups
from headway.data.dataset.subset import subsample_evenly
from headway.data.open import open_source
from headway.data.sampling.split import sample_per_class, stratified_split
from headway.downstream.head_swap import load_run
from headway.downstream.labeled_split import LabeledSplit
from headway.evaluation.evaluator import Evaluator
from headway.evaluation.label_free import MAX_IMAGES, label_free_metrics
from headway.evaluation.methods import SCRATCH, fixed, scratch_method
from headway.metrics.intervals import accuracy
from headway.metrics.knn import knn_accuracy
from headway.metrics.linear_probe import linear_probe
from headway.transforms.color import to_grayscale
from headway.transforms.geometry import center_crop_resize, to_float01
from headway.utils.files import write_json
from headway.utils.hashing import stable_hash

RAW_PIXELS, UNTRAINED, IN_GRAYSCALE = "raw pixels", "untrained", " in grayscale"
BASELINES = (SCRATCH, *(name + suffix for name in (RAW_PIXELS, UNTRAINED) for suffix in ("", IN_GRAYSCALE)))
MODEL = ("--backbone", "vit_micro", "--stem", "conv", "--patch", "8")
NUM_DRAWS, LABELS_PER_CLASS = 5, 10
"""Draws of few labels, and how many labels each has of every class."""
TABLE_WIDTH = 110


class DataSet(NamedTuple):
    """Where the images of a data set are in its folder.

    Attributes:
        unlabeled: The images to pretrain on.
        labeled: The images to fit the probes on.
        test: The images to test on.
        size: Side of the view in pixels.
    """

    unlabeled: str
    labeled: str
    test: str
    size: int


DATASETS = {
    "cifar10": DataSet("train-{0..4}.tar.gz", "train-0.tar.gz", "test.tar.gz", 32),
    "cifar10-dev": DataSet("train-{0..3}.tar.gz", "train-0.tar.gz", "train-4.tar.gz", 32),
    "tiny-animals64": DataSet("train.tar", "train.tar", "test.tar", 64),
    "tiny-animals64-dev": DataSet("train.tar", "train.tar", "test.tar", 64),
}


def main() -> None:
    """Measure the missing cells, then print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs="+", default=[], metavar="TASK", help=f"tasks, or any of {BASELINES}")
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=FOLDER", help=f"NAME in {', '.join(DATASETS)}")
    parser.add_argument("--budget", type=float, default=360, help="CPU seconds per pretraining")
    parser.add_argument("--cores", type=int, default=2, help="cores that the pretraining has to itself")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cells", type=Path, default=CELLS)
    parser.add_argument("--variant", default="", help="a name for the options that follow --")
    parser.add_argument("--trust", type=Path, help="file to write the rank correlations of label-free metrics to")
    parser.add_argument("options", nargs="*", help="after --: further options of headway pretrain")
    args = parser.parse_args()
    torch.set_num_threads(args.cores)
    for pair in args.data:
        name, _, folder = pair.partition("=")
        for seed in args.seeds:
            for task in args.run:
                key = {"task": task, "data": name, "budget": 0 if task in BASELINES else args.budget}
                key |= {"seed": seed, "variant": args.variant}
                words = [str(value).replace(" ", "-").replace("+", "_") for value in key.values() if value != ""]
                file = args.cells / f"{'_'.join(words)}.json"
                make_cell(file, key, partial(measure, task, name, Path(folder), args, seed), "probes")
    cells = read_cells(args.cells)
    for table in leaderboard_tables(cells):
        Console(width=TABLE_WIDTH).print(table)
    if args.trust:
        summaries = [found for _, rows in sorted(group_rows(cells).items()) if (found := correlation_summary(rows))]
        write_json(args.trust, {"source": "benchmarks/leaderboard.py --trust", "reference": summaries})


def measure(task: str, name: str, folder: Path, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train, freeze and probe: the content of a cell."""
    dataset = DATASETS[name]
    labeled, test = (load_store(folder / part, dataset.size) for part in (dataset.labeled, dataset.test))
    machine = {"processor": processor_name(), "cores": args.cores, "torch": torch.__version__}
    in_grayscale = task.endswith(IN_GRAYSCALE)
    if task.startswith(RAW_PIXELS):
        banks = [center_crop_resize(to_float01(store.images), 32) for store in (labeled, test)]  # N 3 32 32 each
        banks = [(to_grayscale(images) if in_grayscale else images).flatten(1) for images in banks]
        return {"machine": machine, "probes": probe_features([banks[0]], [banks[1]], labeled, test)}
    if task in BASELINES:
        torch.manual_seed(seed)
        spec = channel_statistics(labeled.images)._replace(grayscale=in_grayscale)
        backbone = build_backbone(MODEL[1], size=dataset.size, stem=MODEL[3], patch_size=int(MODEL[5]), input_spec=spec)
        if task == SCRATCH:
            return {"machine": machine, "probes": train_from_scratch(backbone, labeled, test, dataset.size, seed)}
        return {"machine": machine, **probe_backbone(backbone, labeled, test, dataset.size)}
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        words = [sys.executable, "-m", "headway.cli", "pretrain", task, "--data", str(folder / dataset.unlabeled)]
        words += ["--out", str(run), *MODEL, "--size", str(dataset.size), "--seed", str(seed), "--json"]
        words += ["--budget", f"{args.budget / args.cores:g}s", *args.options]
        before = child_cpu_seconds()
        answer = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
        cpu_seconds = child_cpu_seconds() - before
        record = json.loads((run / "run.json").read_text())
        backbone, _ = load_run(run)
        return {
            "machine": machine, "commit": record["commit"], "options": args.options,
            "cpu_seconds": round(cpu_seconds, 1), **json.loads(answer.splitlines()[-1]), "run": None,
            **probe_backbone(backbone, labeled, test, dataset.size),
        }  # fmt: skip


def probe_backbone(backbone: Any, labeled: ImageStore, test: ImageStore, size: int) -> dict[str, Any]:
    """The probes on all layers of a frozen backbone, the last of which is its output; and the label-free metrics."""
    banks = [layer_features(backbone, store.images, size) for store in (labeled, test)]
    metrics = label_free_metrics(backbone, subsample_evenly(labeled.images, MAX_IMAGES), size)._asdict()
    return {
        "probes": probe_features(banks[0], banks[1], labeled, test),
        "label_free": {name: round(value, 4) for name, value in metrics.items()},
    }


def train_from_scratch(backbone: Any, labeled: ImageStore, test: ImageStore, size: int, seed: int) -> dict[str, Any]:
    """Accuracy in per cent of the same backbone trained on ten labels per class alone."""
    assert labeled.labels is not None
    split = LabeledSplit(
        labeled.images, labeled.labels, test.images, target_labels(labeled, test), labeled.classes, False, [],
        test.content_hashes, split_groups(labeled),
    )  # fmt: skip

    evaluator, method = Evaluator(split), scratch_method(fixed(backbone))
    draws = [sample_per_class(split.labels, LABELS_PER_CLASS, seed=draw) for draw in range(NUM_DRAWS)]
    accuracies = [
        accuracy(evaluator.score(method, indices, stable_hash("training", seed, draw)).correct)
        for draw, indices in enumerate(draws)
    ]
    return {FEW_LABELS: round(mean(accuracies), 2), "test": len(test.images)}


def target_labels(labeled: ImageStore, test: ImageStore) -> Tensor:
    """N, int64: the labels of the test images, as class indices of the labeled images."""
    assert test.labels is not None
    return torch.tensor([labeled.classes.index(name) for name in test.classes])[test.labels]


def probe_features(bank: list[Tensor], queries: list[Tensor], labeled: ImageStore, test: ImageStore) -> dict[str, Any]:
    """Accuracy in per cent of each probe.

    Args:
        bank: Features of the labeled images, N D for each layer.
        queries: Features of the test images, N' D for each layer.
        labeled: The labeled images.
        test: The test images.
    """
    labels, num_classes, targets = labeled.labels, len(labeled.classes), target_labels(labeled, test)
    assert labels is not None

    def linear_accuracy(layer: int, rows: Tensor | slice, features: Tensor, answers: Tensor) -> float:
        probe, _ = linear_probe(bank[layer][rows], labels[rows], num_classes)
        return accuracy(probe.logits(features).argmax(1) == answers)

    train, held_out = stratified_split(labels, seed=0)
    num_layers = len(bank)
    scores = [0.0]
    if num_layers > 1:
        scores = [linear_accuracy(i, train, bank[i][held_out], labels[held_out]) for i in range(num_layers)]
    best = max(range(num_layers), key=scores.__getitem__)
    draws = [sample_per_class(labels, LABELS_PER_CLASS, seed=draw) for draw in range(NUM_DRAWS)]
    few = [linear_accuracy(-1, indices, queries[-1], targets) for indices in draws]
    last = linear_accuracy(-1, slice(None), queries[-1], targets)
    at_best = last if best == num_layers - 1 else linear_accuracy(best, slice(None), queries[best], targets)
    return {
        "knn": round(knn_accuracy(bank[-1], labels, queries[-1], targets, num_classes), 2), "linear": round(last, 2),
        "best_layer": best, "num_layers": num_layers, "linear_best_layer": round(at_best, 2),
        FEW_LABELS: round(mean(few), 2), "labels": len(labels), "test": len(targets),
    }  # fmt: skip


@torch.no_grad()
def layer_features(backbone: Any, images: Tensor, size: int) -> list[Tensor]:
    """N D for each layer: the mean patch after each block but the last, where blocks are shown, and the output."""
    wanted = range(backbone.depth - 1) if "return_layers" in backbone.supports else ()
    rows = []
    for chunk in track(images.split(FORWARD_BATCH_SIZE), description="features", transient=True):
        features = backbone.eval()(center_crop_resize(to_float01(chunk), size), return_layers=wanted)
        first = features.prefix.shape[1]
        rows.append([*(layer[:, first:].mean(1) for layer in features.layers), features.pooled])  # B D each
    return [torch.cat(parts) for parts in zip(*rows, strict=True)]  # N D each


def load_store(path: Path, side: int) -> ImageStore:
    """Labeled images, decoded once."""
    return build_store(open_source(str(path), labeled=True), side)


if __name__ == "__main__":
    main()
