"""SimCLR from scratch: a whole training loop on the parts of Headway, without its engine.

    python examples/simclr_from_scratch.py --steps 300

trains a small vision transformer on drawn animals and evaluates its features by nearest neighbors. `headway pretrain
simclr` adds what this leaves out: checkpoints, several processes, mixed precision, image files. The loss is NT-Xent
(Chen et al. 2020, https://arxiv.org/abs/2002.05709).
"""

import argparse

import torch
from torch import Tensor, nn

from headway.backbones.build import build_backbone
from headway.losses.contrastive import nt_xent
from headway.metrics.knn import knn_accuracy
from headway.nn.projection_heads import projector
from headway.rng import SampleRNG
from headway.synthetic import CLASSES, DrawnAnimals
from headway.transforms.augment import simclr_augment
from headway.transforms.pixels import to_float01

SIZE, BATCH_SIZE, TEMPERATURE, LR = 32, 128, 0.2, 2e-3


def load(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Drawn animals, N 3 SIZE SIZE in [0, 1], and the index of each one's class, N."""
    animals = DrawnAnimals(count, side=SIZE, seed=seed)
    images = torch.stack([animals.image(i) for i in range(count)])  # N 3 SIZE SIZE
    return to_float01(images), torch.tensor([CLASSES.index(animals.label(i)) for i in range(count)])


@torch.no_grad()
def evaluate(backbone: nn.Module) -> float:
    """Accuracy in percent of the 20 nearest neighbors, on drawn animals that training never sees."""
    (train, train_labels), (test, test_labels) = load(600, seed=1), load(300, seed=2)
    backbone.eval()
    features = [backbone(images).pooled for images in (train, test)]  # N D each
    backbone.train()
    return knn_accuracy(features[0], train_labels, features[1], test_labels, len(CLASSES))


def pretrain(steps: int, count: int) -> nn.Module:
    """Train a backbone for a number of steps on `count` images, whose labels are not used."""
    images, _ = load(count, seed=0)
    backbone = build_backbone("vit_pico", size=SIZE)
    head = projector([backbone.embed_dim, 256, 64])
    augment = simclr_augment(SIZE)
    parameters = [*backbone.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=steps)
    for step in range(steps):
        index = torch.randperm(count)[:BATCH_SIZE]  # B
        rng = SampleRNG(0, step * BATCH_SIZE + torch.arange(len(index)), step)
        views = [augment(images[index], rng.fold_in(name), SIZE) for name in ("first", "second")]  # B 3 SIZE SIZE each
        first, second = head(backbone(torch.cat(views)).pooled).chunk(2)  # B E each
        loss, top1 = nt_xent(first, second, TEMPERATURE, index)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 3.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            print(f"step {step:4d}  loss {loss.item():.3f}  second view found for {100 * top1.item():.0f} %")
    return backbone


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--images", type=int, default=2000)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    untrained = evaluate(build_backbone("vit_pico", size=SIZE))
    trained = evaluate(pretrain(arguments.steps, arguments.images))
    print(f"20 nearest neighbors name {untrained:.1f} % before training and {trained:.1f} % after it")
