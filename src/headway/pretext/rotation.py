"""Rotation: rotate the image by a multiple of 90 degrees and predict the angle.

To predict it, the network must recognize the object and know its usual orientation.

    loss = - log softmax(W f(rotate(x, r)))[r],   r drawn from {0, 90, 180, 270 degrees}

Gidaris, Singh and Komodakis, "Unsupervised representation learning by predicting image rotations", 2018
(https://arxiv.org/abs/1803.07728).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from headway.config import MUON, Recipe, check_range
from headway.losses.classification import classification_output
from headway.nn.numerics import at_least_fp32
from headway.protocol import Backbone, Batch, DataInfo, Panel, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.geometry import random_resized_crop, rotate90

NUM_ROTATIONS = 4


class RotationViews(NamedTuple):
    """V*B rotated images, view-major, and the number of quarter turns of each (int64)."""

    images: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Rotation:
    """Configuration of the rotation task."""

    all_rotations: bool = False
    """Show each image in all four rotations instead of one, as the paper does; a step then costs four times as much."""
    scale: tuple[float, float] = (0.35, 1.0)
    """Share of the image's area that a crop covers. Crops are square, so that their shape doesn't reveal the
    rotation."""

    def __post_init__(self) -> None:
        check_range(self, "scale", above=0, at_most=1, increasing=True)

    def build(self, backbone: Backbone, data_info: DataInfo) -> "RotationTask":
        """Build the task: one linear layer on the pooled features."""
        return RotationTask(self, backbone.embed_dim, data_info.input_size)


class RotationTask(PretextTask):
    """Classify the rotation."""

    def __init__(self, config: Rotation, embed_dim: int, size: int):
        super().__init__()
        self.config, self.size = config, size
        self.head = nn.Linear(embed_dim, NUM_ROTATIONS)

    def make_views(self, batch: Batch, rng: SampleRNG) -> RotationViews:
        """Cut a square crop of each image and rotate it. The target is the number of quarter turns."""
        images = random_resized_crop(batch.images, rng, self.size, scale=self.config.scale, ratio=(1.0, 1.0))
        if self.config.all_rotations:
            targets = torch.arange(NUM_ROTATIONS, device=images.device).repeat_interleave(len(images))  # 4*B
            images = images.repeat(NUM_ROTATIONS, 1, 1, 1)  # 4*B C H W
        else:
            targets = rng.integers("rotation", NUM_ROTATIONS)  # B
        return RotationViews(rotate90(images, targets), targets)

    def forward(self, backbone: Backbone, views: RotationViews, clock: TrainingClock) -> TaskOutput:
        """Cross-entropy over the four rotations."""
        logits = at_least_fp32(self.head(backbone(views.images).pooled))  # V*B 4
        return classification_output(logits, views.targets)

    def visualize(self, batch: Batch, views: RotationViews, backbone: Backbone | None = None) -> list[Panel]:
        """The upright crop, the rotated crop, and the rotated crop turned back by the network's prediction."""
        b = len(batch.images)
        panels = [Panel("the crop, upright", rotate90(views.images, -views.targets % NUM_ROTATIONS)[:b])]
        for images, targets in zip(views.images.split(b), views.targets.split(b), strict=True):  # B C H W and B
            panels.append(Panel("input", images, [f"target: {90 * target} degrees" for target in targets.tolist()]))
            if backbone is not None:
                probs, predictions = at_least_fp32(self.head(backbone(images).pooled)).softmax(1).max(1)  # B each
                captions = [
                    f"{90 * turns} degrees, {100 * prob:.0f} %, {'right' if turns == target else 'wrong'}"
                    for prob, turns, target in zip(probs.tolist(), predictions.tolist(), targets.tolist(), strict=True)
                ]
                restored = rotate90(images, -predictions % NUM_ROTATIONS)
                panels.append(Panel("turned back by the prediction", restored, captions))
        return panels


RECIPE = Recipe(task=Rotation(), optim=MUON, epochs=100, batch_size=64)
