"""`headway pretrain auto` beside a peer: equal CPU seconds, features frozen and probed alike.

    python benchmarks/peer_simclr.py --data cifar10=DATA --budget 1200 --cores 1 --seeds 0 1 2

The peer is SimCLR from lightly's parts (transform, head, loss; ``pip install '.[peers]'``) with torchvision's ResNet-18
and the usual settings for small images: a 3x3 first convolution, no pooling after it, bfloat16, channels last, AdamW, a
cosine schedule over the budget. For images of 64 pixels its first convolution has stride 2, so that it sees four times
as many of them. The peer's seconds are the CPU seconds of its process while it trains, loading included; ours are
those of the whole command, from its start to the finished run. DATA has the layout of ``leaderboard.py``; the test
images of a data set called NAME-dev are held-out training images, by which settings may be selected.

Probes: weighted 20-NN, and softmax regression by full-batch L-BFGS on standardized features (penalty 1e-4 x |W|^2; 1e-2
for ten labels per class, mean of five draws). CIFAR-10 uses 5,000 labeled and 2,000 test images, smaller data sets use
all. A cell is a small JSON file in ``benchmarks/cells/peer``; an existing cell is not measured again.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import torch.nn.functional as F
from cells_io import CELLS, child_cpu_seconds, make_cell, processor_name, read_cells
from leaderboard import (
    DATASETS,
    LABELS_PER_CLASS,
    NUM_DRAWS,
    RAW_PIXELS,
    layer_features,
    load_store,
    target_labels,
)
from rich.console import Console
from rich.table import Table
from tables import FEW_LABELS
from torch import Tensor, nn

from headway.data.dataset.image_store import ImageStore
from headway.data.sampling.split import sample_per_class
from headway.downstream.head_swap import load_run
from headway.metrics.intervals import accuracy
from headway.metrics.knn import knn_accuracy
from headway.transforms.geometry import center_crop_resize, to_float01

OURS, PEER = "headway auto", "lightly SimCLR ResNet-18"
NUM_LABELED, NUM_TEST = 5_000, 2_000
"""Labeled and test images of CIFAR-10 that are used."""
PROBES = {"knn": "20-NN", "linear": "linear", FEW_LABELS: "10 labels per class"}
BATCH_SIZE, LR = 128, 1e-3
"""Of the peer."""


def main() -> None:
    """Measure the missing cells, then print a table for each data set and budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=FOLDER", help=f"NAME in {', '.join(DATASETS)}")
    parser.add_argument("--sides", nargs="+", default=[RAW_PIXELS, OURS, PEER])
    parser.add_argument("--budget", type=float, default=1200, help="CPU seconds per pretraining")
    parser.add_argument("--cores", type=int, default=2, help="cores that the pretraining has to itself")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cells", type=Path, default=CELLS / "peer")
    args = parser.parse_args()
    torch.set_num_threads(args.cores)
    for pair in args.data:
        name, _, folder = pair.partition("=")
        for seed in args.seeds:
            for side in args.sides:
                key = {"side": side, "data": name, "budget": args.budget, "seed": seed, "cores": args.cores}
                file = args.cells / f"{side.replace(' ', '-')}_{name}_{args.budget:g}_{seed}.json"
                work = partial(measure, side, name, Path(folder), args.budget, args.cores, seed)
                make_cell(file, key, work, "probes")
    cells = read_cells(args.cells)
    for data, budget in sorted({(cell["data"], cell["budget"]) for cell in cells}):
        Console().print(table([cell for cell in cells if (cell["data"], cell["budget"]) == (data, budget)]))


def measure(side: str, name: str, folder: Path, budget: float, cores: int, seed: int) -> dict[str, Any]:
    """Train one side, freeze it and probe it: the content of a cell."""
    dataset = DATASETS[name]
    labeled, test = (load_store(folder / part, dataset.size) for part in (dataset.labeled, dataset.test))
    cell: dict[str, Any] = {"machine": processor_name(), "torch": torch.__version__}
    if side == RAW_PIXELS:
        banks = [
            normalize(center_crop_resize(to_float01(store.images), 32)).flatten(1) for store in (labeled, test)
        ]  # N 3*32*32 each
    elif side == PEER:
        network, num_seen = train_peer(load_store(folder / dataset.unlabeled, dataset.size).images, budget, seed)
        cell |= {"cpu_seconds": budget, "images": num_seen}
        banks = [peer_features(network, store.images) for store in (labeled, test)]  # N 512 each
    else:
        with tempfile.TemporaryDirectory() as scratch:
            words = [sys.executable, "-m", "headway.cli", "pretrain", "auto", "--data", str(folder / dataset.unlabeled)]
            words += ["--out", f"{scratch}/run", "--budget", f"{budget / cores:g}s", "--seed", str(seed), "--json"]
            before = child_cpu_seconds()
            answer = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
            cell["cpu_seconds"] = round(child_cpu_seconds() - before, 1)
            cell |= {**json.loads(answer.splitlines()[-1]), "run": None}
            record = json.loads(Path(scratch, "run", "run.json").read_text())
            cell |= {"commit": record["commit"], "plan": record["plan"]}
            backbone, _ = load_run(Path(scratch) / "run")
            banks = [layer_features(backbone, store.images, dataset.size)[-1] for store in (labeled, test)]  # N D each
    return cell | {"probes": probe_features(banks[0], banks[1], labeled, test)}


def train_peer(images: Tensor, budget: float, seed: int) -> tuple[nn.Module, int]:
    """Run SimCLR on N 3 H W uint8 for so many CPU seconds of this process; return network and number of images seen."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
    from torch.utils.data import DataLoader
    from torchvision.transforms.functional import to_pil_image

    torch.manual_seed(seed)
    side = images.shape[-1]
    network = resnet18(side).to(memory_format=torch.channels_last)
    head, criterion = SimCLRProjectionHead(512, 512, 128), NTXentLoss(temperature=0.5)
    optimizer = torch.optim.AdamW(
        [*network.parameters(), *head.parameters()], lr=LR, weight_decay=0.05, betas=(0.9, 0.95)
    )
    transform = SimCLRTransform(input_size=side, cj_strength=0.5, gaussian_blur=0.0)

    class Views(torch.utils.data.Dataset[list[Tensor]]):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> list[Tensor]:
            return transform(to_pil_image(images[index]))

    loader = DataLoader(Views(), BATCH_SIZE, shuffle=True, drop_last=True)
    start, num_seen = time.process_time(), 0
    while True:
        for first, second in loader:
            progress = (time.process_time() - start) / budget
            if progress >= 1:
                return network, num_seen
            for group in optimizer.param_groups:
                group["lr"] = LR * min(1.0, progress / 0.05 + 0.02) * 0.5 * (1 + math.cos(math.pi * progress))
            with torch.autocast("cpu", torch.bfloat16):
                z = head(network(torch.cat([first, second]).to(memory_format=torch.channels_last)))  # 2*B 128
            optimizer.zero_grad()
            criterion(*z.float().chunk(2)).backward()
            optimizer.step()
            num_seen += len(first)


def resnet18(side: int) -> nn.Module:
    """ResNet-18 for small images: He et al. 2016 (https://arxiv.org/abs/1512.03385), its CIFAR stem."""
    import torchvision

    network = torchvision.models.resnet18()
    network.conv1 = nn.Conv2d(3, 64, 3, stride=max(1, side // 32), padding=1, bias=False)
    network.maxpool = network.fc = nn.Identity()
    return network


@torch.no_grad()
def peer_features(network: nn.Module, images: Tensor) -> Tensor:
    """N 3 H W uint8 -> N 512."""
    network.eval()
    return torch.cat([network(normalize(to_float01(chunk))).float() for chunk in images.split(500)])


def normalize(images: Tensor) -> Tensor:
    """Normalize N 3 H W in [0, 1] as the peer's transform does."""
    from lightly.transforms.utils import IMAGENET_NORMALIZE

    mean, std = (torch.tensor(IMAGENET_NORMALIZE[key])[:, None, None] for key in ("mean", "std"))  # 3 1 1 each
    return (images - mean) / std


def probe_features(bank: Tensor, queries: Tensor, labeled: ImageStore, test: ImageStore) -> dict[str, Any]:
    """Accuracy in per cent of each probe, from features N D of the labeled images and N' D of the test images."""
    labels, targets, num_classes = labeled.labels, target_labels(labeled, test), len(labeled.classes)
    assert labels is not None
    g = torch.Generator().manual_seed(0)
    if len(bank) > NUM_LABELED and len(queries) > NUM_TEST and num_classes == 10:
        rows, tested = (torch.randperm(len(x), generator=g)[:n] for x, n in ((bank, NUM_LABELED), (queries, NUM_TEST)))
        bank, labels, queries, targets = bank[rows], labels[rows], queries[tested], targets[tested]
    few = [
        softmax_probe(bank[indices], labels[indices], queries, targets, num_classes, penalty=1e-2, max_iter=100)
        for indices in (sample_per_class(labels, LABELS_PER_CLASS, seed=draw) for draw in range(NUM_DRAWS))
    ]
    return {
        "knn": round(knn_accuracy(bank, labels, queries, targets, num_classes), 2),
        "linear": round(softmax_probe(bank, labels, queries, targets, num_classes, penalty=1e-4, max_iter=60), 2),
        FEW_LABELS: round(mean(few), 2), "labels": len(bank), "test": len(queries),
    }  # fmt: skip


def softmax_probe(
    bank: Tensor, labels: Tensor, queries: Tensor, targets: Tensor, num_classes: int, *, penalty: float, max_iter: int
) -> float:
    """Accuracy in per cent at the minimum of cross-entropy + penalty x |W|^2; features are standardized by the bank."""
    center, scale = bank.mean(0), bank.std(0) + 1e-5  # D each
    bank, queries = (bank - center) / scale, (queries - center) / scale
    weight = torch.zeros(bank.shape[1], num_classes, requires_grad=True)
    bias = torch.zeros(num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=max_iter, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(bank @ weight + bias, labels) + penalty * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return accuracy((queries @ weight + bias).argmax(1) == targets)


def table(cells: list[dict[str, Any]]) -> Table:
    """Mean and standard deviation over the seeds of each side, and ours minus the peer's with two standard errors."""
    made = Table(title=f"{cells[0]['data']}, {cells[0]['budget']:g} CPU seconds")
    for column in ("", "seeds", *PROBES.values()):
        made.add_column(column, justify="left" if not column else "right")
    by_side = {side: [cell["probes"] for cell in cells if cell["side"] == side] for side in (RAW_PIXELS, PEER, OURS)}
    for side, rows in by_side.items():
        if rows:
            made.add_row(side, str(len(rows)), *(_mean_and_std([row[probe] for row in rows]) for probe in PROBES))
    if len(by_side[OURS]) > 1 and len(by_side[PEER]) > 1:
        gains = []
        for probe in PROBES:
            ours, theirs = ([row[probe] for row in by_side[side]] for side in (OURS, PEER))
            error = math.sqrt(stdev(ours) ** 2 / len(ours) + stdev(theirs) ** 2 / len(theirs))
            gains.append(f"{mean(ours) - mean(theirs):+.1f} (two standard errors: {2 * error:.1f})")
        made.add_row("ours minus the peer's", "", *gains)
    return made


def _mean_and_std(values: list[float]) -> str:
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
