"""Few labels: each head of `headway transfer`, with its default settings, against the linear probe of the same run.

    headway pretrain simclr --data 'DATA/train-{0..3}.tar.gz' --out runs/few --backbone vit_micro --stem conv --patch 8
    python benchmarks/fewlabel.py --run runs/few --labeled DATA/train-0.tar.gz --test DATA/test.tar.gz
    python benchmarks/fewlabel.py                                            # the tables of all measured cells

Every head learns from the same draws of labels and is tested on the same images, so the differences are paired. Their
intervals cover the draws and the test images of this one pretraining. Whatever a head selects, it selects on folds of
the labels that it was given. An existing cell (``benchmarks/cells/fewlabel``) is not measured again. To try other
settings of a head, give the cells another ``--name`` and test on held-out training images.
"""

import argparse
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells_io import CELLS, make_cell, read_cells
from rich.console import Console
from rich.table import Table

from headway.data.dataset.subset import subsample_evenly
from headway.data.open import open_source
from headway.data.sampling.split import sample_per_class
from headway.downstream.head_swap import load_run
from headway.downstream.heads.registry import HEADS
from headway.downstream.labeled_split import LabeledSplit, load_labeled_split
from headway.downstream.transfer import DEFAULT_FOLDS, TransferObservers, train_classifier
from headway.evaluation.result_cache import pack_bits, unpack_bits
from headway.metrics.intervals import paired_interval


def main() -> None:
    """Measure the missing cells, then print the table of each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run folder")
    parser.add_argument("--labeled", help="labeled images")
    parser.add_argument("--test", help="images to test on")
    parser.add_argument("--name", default="", help="name of the cells; none: the name of the run folder")
    parser.add_argument("--heads", nargs="+", default=["linear", "finetune"], choices=list(HEADS))
    parser.add_argument("--labels-per-class", type=int, nargs="+", default=[1, 5, 10, 50])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--test-images", type=int, default=2000, help="at most, evenly spaced")
    parser.add_argument("--cells", type=Path, default=CELLS / "fewlabel")
    args = parser.parse_args()
    if args.run:
        measure(args, args.name or args.run.name)
    for table in tables(read_cells(args.cells)):
        Console().print(table)


def measure(args: argparse.Namespace, name: str) -> None:
    """Measure every missing cell: labels per class x draw x head."""
    backbone, _ = load_run(args.run)
    size = backbone.image_size
    source, test = (open_source(data, labeled=True, backbone=backbone) for data in (args.labeled, args.test))
    split = load_labeled_split(source, test, size, for_crops=True)
    split = split._replace(
        test_images=subsample_evenly(split.test_images, args.test_images),
        test_labels=subsample_evenly(split.test_labels, args.test_images),
    )
    for count in args.labels_per_class:
        for draw in range(args.draws):
            for head in args.heads:
                key = {"run": name, "head": head, "labels_per_class": count, "draw": draw}
                file = args.cells / f"{'_'.join(map(str, key.values()))}.json"
                make_cell(file, key, partial(train_head, backbone, split, size, head, count, draw))


def train_head(
    backbone: Any, split: LabeledSplit, size: int, head: str, labels_per_class: int, draw: int
) -> dict[str, Any]:
    """Train a head on one draw of labels: which test images it classifies correctly, and what it selected."""
    indices, messages = sample_per_class(split.labels, labels_per_class, seed=draw), list[str]()
    start = time.perf_counter()
    data, observers = split.training_set(size).subset(indices), TransferObservers(notify=messages.append)
    classifier, _ = train_classifier(backbone, data, HEADS[head], seed=draw, folds=DEFAULT_FOLDS, observers=observers)
    seconds = time.perf_counter() - start
    correct = classifier.predict_proba(split.test_images).argmax(1) == split.test_labels
    return {
        "labels": len(indices), "seconds": round(seconds, 1), "messages": messages, "torch": torch.__version__,
        "correct": pack_bits(correct.numpy()),
    }  # fmt: skip


def tables(cells: list[dict[str, Any]]) -> list[Table]:
    """A table per run, a row per number of labels and head: accuracy, and the paired gain over the linear probe."""
    runs: dict[str, dict[tuple[int, str], dict[int, np.ndarray]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        correct = unpack_bits(cell["correct"]).astype(float)
        runs[cell["run"]][cell["labels_per_class"], cell["head"]][cell["draw"]] = correct
    made = []
    for run, rows in runs.items():
        table = Table("labels per class", "head", "draws", "accuracy, %", "over linear", "95 %", title=run)
        for (count, head), by_draw in sorted(
            rows.items(), key=lambda row: (row[0][0], row[0][1] != "linear", row[0][1])
        ):
            linear = rows.get((count, "linear"), {})
            draws = sorted(by_draw.keys() & linear.keys()) if head != "linear" else []
            accuracy = f"{100 * np.mean([correct.mean() for correct in by_draw.values()]):.1f}"
            paired = ("", "")
            if draws:
                gain = paired_interval(np.stack([by_draw[draw] - linear[draw] for draw in draws]))
                paired = f"{gain.mean:+.1f}", f"{gain.low:.1f} to {gain.high:.1f}"
            table.add_row(str(count), head, str(len(by_draw)), accuracy, *paired)
        made.append(table)
    return made


if __name__ == "__main__":
    main()
