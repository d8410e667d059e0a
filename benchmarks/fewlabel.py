"""Few labels: each head of `headway transfer`, by its default recipe, against the linear probe of the same run.

    headway pretrain simclr --data 'DATA/train-{0..3}.tar.gz' --out runs/few --backbone vit_micro --stem conv --patch 8
    python benchmarks/fewlabel.py --run runs/few --labels DATA/train-0.tar.gz --test DATA/test.tar.gz
    python benchmarks/fewlabel.py                                            # the table of what has been measured

Every head learns from the same draws of labels and is tested on the same pictures, so that differences are paired;
their intervals are over draws and test pictures of this one pretraining. Whatever a recipe chooses, it chooses on folds
of the labels it was given. Finished cells (``benchmarks/cells/fewlabel``) aren't computed again; who mends a recipe
gives the new one another ``--name`` and tests it on training pictures that are held out.
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

from headway.data.open import open_source
from headway.data.split import per_class
from headway.data.store import natural_size
from headway.downstream.labelled import Labelled, gather_labelled
from headway.downstream.swap import load_run, view_size
from headway.downstream.transfer import Head, transfer
from headway.measure.metrics import paired_interval
from headway.train.job import DETAIL, stored_side
from headway.train.planning import spread
from headway.verdict.cells import pack, unpack

FOLDS = 3
"""As ``headway transfer`` has it."""


def main() -> None:
    """Make the cells that are missing, then print the table of each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run folder")
    parser.add_argument("--labels", help="labelled pictures")
    parser.add_argument("--test", help="pictures to test on")
    parser.add_argument("--name", default="", help="what the cells are called; none: as the run's folder")
    parser.add_argument("--heads", nargs="+", default=["linear", "finetune"], choices=get_args(Head))
    parser.add_argument("--per-class", type=int, nargs="+", default=[1, 5, 10, 50])
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
    size = view_size(backbone)
    source, test = (open_source(data, labelled=True, like=backbone) for data in (a.labels, a.test))
    pictures = gather_labelled(source, test, size, side=stored_side(natural_size(source)[0], size, DETAIL))
    pictures = pictures._replace(
        test_images=spread(pictures.test_images, a.test_pictures),
        test_labels=spread(pictures.test_labels, a.test_pictures),
    )
    for count in a.per_class:
        for draw in range(a.draws):
            for head in a.heads:
                cell = {"run": name, "head": head, "per_class": count, "draw": draw}
                file = a.cells / f"{'_'.join(map(str, cell.values()))}.json"
                make(file, cell, partial(learnt, backbone, pictures, size, head, count, draw))


def learnt(backbone: Any, pictures: Labelled, size: int, head: Head, count: int, draw: int) -> dict[str, Any]:
    """What a head makes of one draw of labels: test pictures named rightly, and what it chose."""
    chosen, said = per_class(pictures.labels, count, seed=draw), list[str]()
    began = time.perf_counter()
    classifier = transfer(
        backbone, pictures.images[chosen], pictures.labels[chosen], pictures.classes, size,
        head=head, seed=draw, folds=FOLDS, say=said.append,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    right = classifier.probabilities(pictures.test_images).argmax(1) == pictures.test_labels
    return {
        "labels": len(chosen), "seconds": round(seconds, 1), "said": said, "torch": torch.__version__,
        "right": pack(right.numpy()),
    }  # fmt: skip


def tables(cells: list[dict[str, Any]]) -> list[Table]:
    """For each run a line a number of labels and head: right in per cent, and the paired gain over the linear probe."""
    runs: dict[str, dict[tuple[int, str], dict[int, np.ndarray]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        runs[cell["run"]][cell["per_class"], cell["head"]][cell["draw"]] = unpack(cell["right"]).astype(float)
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
