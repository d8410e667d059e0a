"""`headway pretrain auto` beside a peer of the field: equal processor seconds, features frozen and probed alike.

    python benchmarks/peer_simclr.py --data cifar10=DATA --budget 1200 --cores 1 --seeds 0 1 2

The peer is SimCLR out of lightly's own parts (transform, head, loss; ``pip install '.[peers]'``) around
torchvision's ResNet-18, in the settings of the field for small images: 3x3 first convolution, no pooling after it,
bfloat16, channels last, AdamW, a cosine over the budget. Images of 64 pixels are halved by its first convolution,
which shows it four times as many of them. Its seconds are those of its process while it trains, loading included; ours
are all that the command takes, from its start to a finished run. DATA is laid out as for ``leaderboard.py``; of a data
set called NAME-dev the test images are training images held out, to choose by.

Probes: weighted 20-NN, and softmax regression by full-batch L-BFGS on standardized features (penalty 1e-4 x |W|^2; 1e-2
for ten labels a class, mean of five draws). CIFAR-10 takes 5,000 labeled and 2,000 test images, smaller data sets
all. A cell is a small JSON file in ``benchmarks/cells/peer``; a finished one isn't run again.
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
from kept import FOLDER, make, processor, processor_seconds, read
from leaderboard import DATASETS, DRAWS, SHOTS, asked, described, stored
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from headway.data.dataset.image_store import ImageStore
from headway.data.sampling.split import sample_per_class
from headway.downstream.head_swap import load_run
from headway.metrics.intervals import accuracy
from headway.metrics.knn import knn_accuracy
from headway.transforms.geometry import center_crop_resize, to_float01

OURS, PEER, PIXELS = "headway auto", "lightly SimCLR ResNet-18", "raw pixels"
LABELLED, ASKED = 5_000, 2_000
PROBES = {"knn": "20-NN", "linear": "linear", "ten": "10 labels a class"}
BATCH, RATE = 128, 1e-3


def main() -> None:
    """Make the cells that are missing, then print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=FOLDER", help=f"NAME in {', '.join(DATASETS)}")
    parser.add_argument("--sides", nargs="+", default=[PIXELS, OURS, PEER])
    parser.add_argument("--budget", type=float, default=1200, help="processor seconds of a pretraining")
    parser.add_argument("--cores", type=int, default=2, help="cores that the pretraining has for itself")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cells", type=Path, default=FOLDER / "peer")
    a = parser.parse_args()
    torch.set_num_threads(a.cores)
    for pair in a.data:
        name, _, folder = pair.partition("=")
        for seed in a.seeds:
            for side in a.sides:
                cell = {"side": side, "data": name, "budget": a.budget, "seed": seed, "cores": a.cores}
                file = a.cells / f"{side.replace(' ', '-')}_{name}_{a.budget:g}_{seed}.json"
                make(file, cell, partial(measure, side, name, Path(folder), a.budget, a.cores, seed), "probes")
    cells = read(a.cells)
    for data, budget in sorted({(cell["data"], cell["budget"]) for cell in cells}):
        Console().print(table([cell for cell in cells if (cell["data"], cell["budget"]) == (data, budget)]))


def measure(side: str, name: str, folder: Path, budget: float, cores: int, seed: int) -> dict[str, Any]:
    """Train one side, freeze it and probe it: what goes into a cell."""
    where = DATASETS[name]
    labelled, test = (stored(folder / part, where.size) for part in (where.labels, where.test))
    found: dict[str, Any] = {"machine": processor(), "torch": torch.__version__}
    if side == PIXELS:
        rows = [
            normalised(center_crop_resize(to_float01(s.images), 32)).flatten(1) for s in (labelled, test)
        ]  # N 3*32*32
    elif side == PEER:
        network, seen = train_peer(stored(folder / where.pool, where.size).images, budget, seed)
        found |= {"processor_seconds": budget, "pictures": seen}
        rows = [features(network, store.images) for store in (labelled, test)]  # N 512
    else:
        with tempfile.TemporaryDirectory() as scratch:
            words = [sys.executable, "-m", "headway.cli", "pretrain", "auto", "--data", str(folder / where.pool)]
            words += ["--out", f"{scratch}/run", "--budget", f"{budget / cores:g}s", "--seed", str(seed), "--json"]
            before = processor_seconds()
            answer = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
            found["processor_seconds"] = round(processor_seconds() - before, 1)
            found |= {**json.loads(answer.splitlines()[-1]), "run": None}
            record = json.loads(Path(scratch, "run", "run.json").read_text())
            found |= {"commit": record["commit"], "plan": record["plan"]}
            backbone, _ = load_run(Path(scratch) / "run")
            rows = [described(backbone, store.images, where.size)[-1] for store in (labelled, test)]  # N D
    return found | {"probes": probes(*rows, labelled, test)}


def train_peer(images: Tensor, budget: float, seed: int) -> tuple[nn.Module, int]:
    """SimCLR on N 3 H W uint8, for this many seconds of the process: the network, and the images that it saw."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
    from torch.utils.data import DataLoader
    from torchvision.transforms.functional import to_pil_image

    torch.manual_seed(seed)
    side = images.shape[-1]
    network = resnet18(side).to(memory_format=torch.channels_last)
    head, loss_of = SimCLRProjectionHead(512, 512, 128), NTXentLoss(temperature=0.5)
    optimizer = torch.optim.AdamW(
        [*network.parameters(), *head.parameters()], lr=RATE, weight_decay=0.05, betas=(0.9, 0.95)
    )
    deal = SimCLRTransform(input_size=side, cj_strength=0.5, gaussian_blur=0.0)

    class Views(torch.utils.data.Dataset[list[Tensor]]):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> list[Tensor]:
            return deal(to_pil_image(images[index]))

    loader = DataLoader(Views(), BATCH, shuffle=True, drop_last=True)
    began, seen = time.process_time(), 0
    while True:
        for first, second in loader:
            progress = (time.process_time() - began) / budget
            if progress >= 1:
                return network, seen
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1.0, progress / 0.05 + 0.02) * 0.5 * (1 + math.cos(math.pi * progress))
            with torch.autocast("cpu", torch.bfloat16):
                z = head(network(torch.cat([first, second]).to(memory_format=torch.channels_last)))  # 2*B 128
            optimizer.zero_grad()
            loss_of(*z.float().chunk(2)).backward()
            optimizer.step()
            seen += len(first)


def resnet18(side: int) -> nn.Module:
    """ResNet-18 for small images: He et al. 2016 (https://arxiv.org/abs/1512.03385), its CIFAR stem."""
    import torchvision

    network = torchvision.models.resnet18()
    network.conv1 = nn.Conv2d(3, 64, 3, stride=max(1, side // 32), padding=1, bias=False)
    network.maxpool = network.fc = nn.Identity()
    return network


@torch.no_grad()
def features(network: nn.Module, images: Tensor) -> Tensor:
    """N 3 H W uint8 -> N 512."""
    network.eval()
    return torch.cat([network(normalised(to_float01(chunk))).float() for chunk in images.split(500)])


def normalised(images: Tensor) -> Tensor:
    """N 3 H W in [0, 1], as the peer's transform leaves them."""
    from lightly.transforms.utils import IMAGENET_NORMALIZE as SCALE

    average, deviation = (torch.tensor(SCALE[key])[:, None, None] for key in ("mean", "std"))  # 3 1 1 each
    return (images - average) / deviation


def probes(bank: Tensor, queries: Tensor, labelled: ImageStore, test: ImageStore) -> dict[str, Any]:
    """What is right in per cent, from N D of labeled and of test images."""
    labels, wanted, classes = labelled.labels, asked(labelled, test), len(labelled.classes)
    assert labels is not None
    chance = torch.Generator().manual_seed(0)
    if len(bank) > LABELLED and len(queries) > ASKED and classes == 10:
        rows, ask = (torch.randperm(len(x), generator=chance)[:n] for x, n in ((bank, LABELLED), (queries, ASKED)))
        bank, labels, queries, wanted = bank[rows], labels[rows], queries[ask], wanted[ask]
    few = [
        softmax_probe(bank[chosen], labels[chosen], queries, wanted, classes, penalty=1e-2, rounds=100)
        for chosen in (sample_per_class(labels, SHOTS, seed=draw) for draw in range(DRAWS))
    ]
    return {
        "knn": round(knn_accuracy(bank, labels, queries, wanted, classes), 2),
        "linear": round(softmax_probe(bank, labels, queries, wanted, classes, penalty=1e-4, rounds=60), 2),
        "ten": round(mean(few), 2), "labels": len(bank), "test": len(queries),
    }  # fmt: skip


def softmax_probe(
    bank: Tensor, labels: Tensor, queries: Tensor, wanted: Tensor, classes: int, *, penalty: float, rounds: int
) -> float:
    """Per cent right of mean cross-entropy + penalty x |W|^2 at its minimum, features standardized by the bank's."""
    centre, scale = bank.mean(0), bank.std(0) + 1e-5  # D each
    bank, queries = (bank - centre) / scale, (queries - centre) / scale
    weight = torch.zeros(bank.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    search = torch.optim.LBFGS([weight, bias], max_iter=rounds, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        found = F.cross_entropy(bank @ weight + bias, labels) + penalty * weight.square().sum()
        found.backward()
        return found

    search.step(loss)
    return accuracy((queries @ weight + bias).argmax(1) == wanted)


def table(cells: list[dict[str, Any]]) -> Table:
    """Mean and deviation over the seeds of each side, and ours minus the peer's with two standard errors."""
    made = Table(title=f"{cells[0]['data']}, {cells[0]['budget']:g} processor seconds")
    for column in ("", "seeds", *PROBES.values()):
        made.add_column(column, justify="left" if not column else "right")
    found = {side: [cell["probes"] for cell in cells if cell["side"] == side] for side in (PIXELS, PEER, OURS)}
    for side, rows in found.items():
        if rows:
            made.add_row(side, str(len(rows)), *(_spread([row[probe] for row in rows]) for probe in PROBES))
    if len(found[OURS]) > 1 and len(found[PEER]) > 1:
        gains = []
        for probe in PROBES:
            ours, theirs = ([row[probe] for row in found[side]] for side in (OURS, PEER))
            error = math.sqrt(stdev(ours) ** 2 / len(ours) + stdev(theirs) ** 2 / len(theirs))
            gains.append(f"{mean(ours) - mean(theirs):+.1f} (two standard errors: {2 * error:.1f})")
        made.add_row("ours minus the peer's", "", *gains)
    return made


def _spread(values: list[float]) -> str:
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
