"""Few labels: each head of `headway transfer`, by its default recipe, against the linear probe of the same run.

    headway pretrain simclr --data 'DATA/train-{0..3}.tar.gz' --out runs/few --backbone vit_micro --stem conv --patch 8
    python benchmarks/fewlabel.py --run runs/few --labels DATA/train-0.tar.gz --test DATA/test.tar.gz
    python benchmarks/fewlabel.py                                            # the table of what has been measured

Every head learns from the same draws of labels and is tested on the same images, so that differences are paired;
their intervals are over draws and test images of this one pretraining. Whatever a recipe chooses, it chooses on folds
of the labels it was given. Finished cells (``benchmarks/cells/fewlabel``) aren't computed again; who mends a recipe
gives the new one another ``--name`` and tests it on training images that are held out.
"""

import argparse
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from kept import FOLDER, make, read
from rich.console import Console
from rich.table import Table

from headway.data.dataset.image_store import median_short_side
from headway.data.dataset.subset import subsample_evenly
from headway.data.open import open_source
from headway.data.sampling.split import sample_per_class
from headway.downstream.head_swap import input_size, load_run
from headway.downstream.labeled_images import LabeledImages
from headway.downstream.labeled_split import LabeledSplit, load_labeled_split
from headway.downstream.transfer import HeadKind, transfer
from headway.evaluation.result_cache import pack_bits, unpack_bits
from headway.metrics.intervals import paired_interval
from headway.backbones.input_size import STORAGE_SCALE, storage_side

FOLDS = 3
"""As ``headway transfer`` has it."""


def main() -> None:
    """Make the cells that are missing, then print the table of each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run folder")
    parser.add_argument("--labels", help="labeled images")
    parser.add_argument("--test", help="images to test on")
    parser.add_argument("--name", default="", help="what the cells are called; none: as the run's folder")
    parser.add_argument("--heads", nargs="+", default=["linear", "finetune"], choices=get_args(HeadKind))
    parser.add_argument("--labels-per-class", type=int, nargs="+", default=[1, 5, 10, 50])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--test-pictures", type=int, default=2000, help="at most, evenly spread")
    parser.add_argument("--cells", type=Path, default=FOLDER / "fewlabel")
    a = parser.parse_args()
    if a.run:
        measure(a, a.name or a.run.name)
    for table in tables(read(a.cells)):
        Console().print(table)


def measure(a: argparse.Namespace, name: str) -> None:
    """Make every cell that is missing: head x labels a class x draw."""
    backbone, _ = load_run(a.run)
    size = input_size(backbone)
    source, test = (open_source(data, labeled=True, backbone=backbone) for data in (a.labels, a.test))
    pictures = load_labeled_split(
        source, test, size, storage_side=storage_side(median_short_side(source)[0], size, STORAGE_SCALE)
    )
    pictures = pictures._replace(
        test_images=subsample_evenly(pictures.test_images, a.test_pictures),
        test_labels=subsample_evenly(pictures.test_labels, a.test_pictures),
    )
    for count in a.labels_per_class:
        for draw in range(a.draws):
            for head in a.heads:
                cell = {"run": name, "head": head, "labels_per_class": count, "draw": draw}
                file = a.cells / f"{'_'.join(map(str, cell.values()))}.json"
                make(file, cell, partial(learnt, backbone, pictures, size, head, count, draw))


def learnt(backbone: Any, pictures: LabeledSplit, size: int, head: HeadKind, count: int, draw: int) -> dict[str, Any]:
    """What a head makes of one draw of labels: test images named rightly, and what it chose."""
    chosen, said = sample_per_class(pictures.labels, count, seed=draw), list[str]()
    began = time.perf_counter()
    classifier = transfer(
        backbone, LabeledImages(pictures.images[chosen], pictures.labels[chosen], pictures.classes, size),
        head=head, seed=draw, folds=FOLDS, notify=said.append,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    right = classifier.predict_proba(pictures.test_images).argmax(1) == pictures.test_labels
    return {
        "labels": len(chosen), "seconds": round(seconds, 1), "said": said, "torch": torch.__version__,
        "right": pack_bits(right.numpy()),
    }  # fmt: skip


def tables(cells: list[dict[str, Any]]) -> list[Table]:
    """For each run a line a number of labels and head: right in per cent, and the paired gain over the linear probe."""
    runs: dict[str, dict[tuple[int, str], dict[int, np.ndarray]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        runs[cell["run"]][cell["labels_per_class"], cell["head"]][cell["draw"]] = unpack_bits(cell["right"]).astype(
            float
        )
    made = []
    for run, rows in runs.items():
        table = Table("labels a class", "head", "draws", "right, %", "over linear", "95 %", title=run)
        for (count, head), found in sorted(rows.items(), key=lambda row: (row[0][0], row[0][1] != "linear", row[0][1])):
            linear = rows.get((count, "linear"), {})
            draws = sorted(found.keys() & linear.keys()) if head != "linear" else []
            accuracy = f"{100 * np.mean([table.mean() for table in found.values()]):.1f}"
            paired = ("", "")
            if draws:
                gain = paired_interval(np.stack([found[draw] - linear[draw] for draw in draws]))
                paired = f"{gain.mean:+.1f}", f"{gain.low:.1f} to {gain.high:.1f}"
            table.add_row(str(count), head, str(len(found)), accuracy, *paired)
        made.append(table)
    return made


if __name__ == "__main__":
    main()
