"""Upside down: some images are turned by half, and the network predicts which."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway import Backbone, Batch, DataInfo, PretextTask, Recipe, TaskOutput, TrainingClock
from headway.nn.numerics import at_least_fp32
from headway.rng import SampleRNG
from headway.transforms.geometry import center_crop_resize, to_float01


class UpsideDownViews(NamedTuple):
    """B images, and whether each was turned."""

    images: Tensor
    turned: Tensor


@dataclass(frozen=True)
class UpsideDown:
    """Configuration of the task."""

    probability: float = 0.5
    """Probability that an image is turned."""

    def build(self, backbone: Backbone, data_info: DataInfo) -> "UpsideDownTask":
        """Build the task."""
        return UpsideDownTask(self, backbone.embed_dim, data_info.input_size)


class UpsideDownTask(PretextTask):
    """Predict which images were turned."""

    def __init__(self, config: UpsideDown, embed_dim: int, size: int):
        super().__init__()
        self.config, self.size, self.head = config, size, nn.Linear(embed_dim, 1)

    def make_views(self, batch: Batch, rng: SampleRNG) -> UpsideDownViews:
        """The image at the size of the view, turned or not."""
        images = center_crop_resize(to_float01(batch.images), self.size)  # B C S S
        turned = rng.bernoulli("turned", self.config.probability)  # B
        return UpsideDownViews(torch.where(turned[:, None, None, None], images.flip(2, 3), images), turned)

    def forward(self, backbone: Backbone, views: UpsideDownViews, clock: TrainingClock) -> TaskOutput:
        """Binary cross-entropy."""
        logits = at_least_fp32(self.head(backbone(views.images).pooled))[:, 0]  # B
        accuracy = ((logits > 0) == views.turned).float().mean()
        return TaskOutput(F.binary_cross_entropy_with_logits(logits, views.turned.to(logits)), {"accuracy": accuracy})


RECIPE = Recipe(task=UpsideDown(), epochs=1, batch_size=8)
