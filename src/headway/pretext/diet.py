"""DIET: every image is its own class; classify which image a view comes from.

With n the index of the image among the N images of the data, W a linear layer of N outputs and s the label smoothing,

    loss = - (1 - s) log p_n  -  s / N sum_k log p_k,          p = softmax(W f(view))

This is supervised learning whose label is the image's index. There is no projector, no teacher and no second view.

Balestriero, "Unsupervised learning on a DIET: datum index as target free of self-supervision, reconstruction, projector
head", 2023 (https://arxiv.org/abs/2302.10260).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from headway.config import MUON, Recipe, check_range
from headway.metrics.training_metrics import batch_feature_std
from headway.nn.numerics import at_least_fp32, no_autocast
from headway.protocol import Backbone, Batch, DataInfo, Panel, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.augment import Augment, simclr_augment

MAX_LOGITS = 1 << 24
"""Logits in memory at a time (64 MiB in float32). B x N logits would not fit for millions of images."""


class DIETViews(NamedTuple):
    """One view of each of B images, and the index of each image in the data (B, int64)."""

    images: Tensor
    sample_index: Tensor


@dataclass(frozen=True)
class DIET:
    """Configuration of DIET."""

    label_smoothing: float = 0.8
    """s above. It is strong because most images have similar images with other indices."""
    augment: Augment | None = None
    """Augmentation of the views. None: SimCLR's."""

    def __post_init__(self) -> None:
        check_range(self, "label_smoothing", at_least=0, below=1)

    def build(self, backbone: Backbone, data_info: DataInfo) -> "DIETTask":
        """Build the task: a linear layer with N x D weights, and as many in Muon's momentum."""
        return DIETTask(self, backbone.embed_dim, data_info)


class DIETTask(PretextTask):
    """Classify the image's index."""

    def __init__(self, config: DIET, embed_dim: int, data_info: DataInfo):
        super().__init__()
        self.label_smoothing, self.size = config.label_smoothing, data_info.input_size
        self.augment = config.augment or simclr_augment(data_info.input_size)
        self.head = nn.Linear(embed_dim, data_info.num_images, bias=False)

    def make_views(self, batch: Batch, rng: SampleRNG) -> DIETViews:
        """One crop of each image. The target is the image's index in the data."""
        return DIETViews(self.augment(batch.images, rng, self.size), batch.sample_index)

    def forward(self, backbone: Backbone, views: DIETViews, clock: TrainingClock) -> TaskOutput:
        """Smoothed cross-entropy over all images of the data."""
        features = backbone(views.images).pooled  # B D
        loss, accuracy = chunked_cross_entropy(features, self.head.weight, views.sample_index, self.label_smoothing)
        return TaskOutput(loss, {"accuracy": accuracy, "feature_std": batch_feature_std(features)})

    def visualize(self, batch: Batch, views: DIETViews, backbone: Backbone | None = None) -> list[Panel]:
        """The view and its index; with a network, the index that it predicts."""
        panels = [Panel("input", views.images, [f"image {index}" for index in views.sample_index.tolist()])]
        if backbone is not None:
            predictions = self.head(backbone(views.images).pooled).argmax(1).tolist()  # B
            panels.append(Panel("prediction", views.images, [f"image {index}" for index in predictions]))
        return panels


@no_autocast
def chunked_cross_entropy(
    features: Tensor, weight: Tensor, targets: Tensor, label_smoothing: float, max_logits: int = MAX_LOGITS
) -> tuple[Tensor, Tensor]:
    """The smoothed cross-entropy above, with at most ``max_logits`` logits in memory at a time.

    With logits z_k = w_k . f it equals logsumexp(z) - (1 - s) z_n - s mean(z), where mean(z) = mean(w) . f. The
    logsumexp is computed in slices of W, whose logits are recomputed for the gradient.

    Args:
        features: B D.
        weight: N D.
        targets: B, int64 in 0..N-1.
        label_smoothing: s in [0, 1).
        max_logits: The most logits in memory at a time.

    Returns:
        The mean over images, and the share of images whose own logit is the largest.
    """
    features, weight = at_least_fp32(features), at_least_fp32(weight)
    slices = weight.split(max(max_logits // max(len(features), 1), 1))
    parts = [logsumexp_and_max(features, slices[0])] if len(slices) == 1 else [
        checkpoint(logsumexp_and_max, features, part, use_reentrant=False, preserve_rng_state=False) for part in slices
    ]  # fmt: skip
    log_normalizer = torch.stack([total for total, _ in parts]).logsumexp(0)  # B
    largest = torch.stack([maximum for _, maximum in parts]).amax(0)  # B
    own = (features * weight[targets]).sum(1)  # B; its rounding differs from that in its slice
    loss = log_normalizer - (1 - label_smoothing) * own - label_smoothing * (features @ weight.mean(0))  # B
    return loss.mean(), (own.detach() >= largest - 1e-6 * largest.abs()).float().mean()


def logsumexp_and_max(features: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(logsumexp, largest) of the logits of one slice of W: B each."""
    logits = features @ weight.T  # B n
    return logits.logsumexp(1), logits.detach().amax(1)


RECIPE = Recipe(task=DIET(), optim=MUON, epochs=400, batch_size=256)
