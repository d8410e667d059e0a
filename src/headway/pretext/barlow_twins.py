"""Barlow Twins: each output coordinate is equal for both views and uncorrelated with every other coordinate.

With z and z' the two views' projections, each of the D coordinates standardized to mean 0 and variance 1 over the
batch, and C = mean over images of z z'^T their cross-correlation,

    loss = 1/D [ sum_i (1 - C_ii)^2  +  lambda sum_{i != j} C_ij^2 ]

The paper has no factor 1/D; it makes the gradients' scale independent of D. A coordinate has one entry on C's diagonal
and D - 1 beside it, so the paper's lambda of 0.0051 belongs to its D of 8192. For other D lambda is 0.0051 x 8192 / D
here. D redundant coordinates then cost as much as in the paper, relative to the cost of disagreement.

Zbontar, Jing, Misra, LeCun and Deny, "Barlow Twins: self-supervised learning via redundancy reduction", 2021
(https://arxiv.org/abs/2103.03230).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from headway.config import MUON, Recipe, check_range
from headway.distributed import all_mean
from headway.losses.moments import center_batch, cross_covariance
from headway.metrics.training_metrics import batch_feature_std
from headway.nn.numerics import no_autocast
from headway.nn.projection_heads import projector
from headway.protocol import Backbone, Batch, DataInfo, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.augment import Augment, byol_augments
from headway.transforms.two_views import TwoViews, two_views

PAPER_PROJECTION_DIM = 8192
"""D of the paper's lambda."""


@dataclass(frozen=True)
class BarlowTwins:
    """Configuration of Barlow Twins."""

    redundancy_weight: float = 0.0051
    """lambda at D = 8192, the weight of the redundancy term. For other D lambda is this x 8192 / D."""
    projection_dim: int = 1024
    """Width of the projector's three layers, D (8192 in the paper, for networks many times wider than ours)."""
    augments: tuple[Augment, Augment] | None = None
    """Augmentations of the two views. None: those of BYOL, as in the paper."""

    def __post_init__(self) -> None:
        check_range(self, "redundancy_weight", at_least=0)
        check_range(self, "projection_dim", at_least=1)

    def build(self, backbone: Backbone, data_info: DataInfo) -> "BarlowTwinsTask":
        """Build the task: a projector of three layers."""
        return BarlowTwinsTask(self, backbone.embed_dim, data_info.input_size)


class BarlowTwinsTask(PretextTask):
    """Agree on every coordinate, and correlate none with another."""

    batch_coupled = True
    min_batch_size = 2

    def __init__(self, config: BarlowTwins, embed_dim: int, size: int):
        super().__init__()
        self.size = size
        self.redundancy_weight = config.redundancy_weight * PAPER_PROJECTION_DIM / config.projection_dim
        self.augments = config.augments or byol_augments(size)
        self.projector = projector([embed_dim, *[config.projection_dim] * 3])

    def make_views(self, batch: Batch, rng: SampleRNG) -> TwoViews:
        """Two crops of each image, one with each augmentation."""
        return two_views(batch, rng, self.size, *self.augments)

    def forward(self, backbone: Backbone, views: TwoViews, clock: TrainingClock) -> TaskOutput:
        """Move the cross-correlation of the two views towards the identity."""
        features = backbone(views.images).pooled.chunk(2)  # B D each; batch norms see one view at a time
        first, second = (self.projector(view) for view in features)  # B E each
        correlation = cross_correlation(first, second)  # E E
        on_diagonal, off_diagonal = on_off_diagonal(correlation)
        metrics = {
            "correlation": correlation.diagonal().mean().detach(),  # 1 where the views agree
            "redundancy": (off_diagonal.detach() / max(len(correlation) - 1, 1)).sqrt(),  # 0: uncorrelated
            "feature_std": batch_feature_std(features[0]),
        }
        return TaskOutput(on_diagonal + self.redundancy_weight * off_diagonal, metrics)


@no_autocast
def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """C above, over the images of all processes: B D and B D -> D D."""
    return cross_covariance(standardize(first), standardize(second))


def standardize(x: Tensor) -> Tensor:
    """Standardize each coordinate to mean 0 and variance 1 over the images of all processes."""
    x = center_batch(x)
    return x * (all_mean(x.square()) + 1e-5).rsqrt()


def on_off_diagonal(correlation: Tensor) -> tuple[Tensor, Tensor]:
    """(1/D sum_i (1 - C_ii)^2, 1/D sum_{i != j} C_ij^2) of C: D D."""
    diagonal = correlation.diagonal()  # D
    off_diagonal = correlation - torch.diag(diagonal)
    return (1 - diagonal).square().mean(), off_diagonal.square().sum() / len(correlation)


RECIPE = Recipe(task=BarlowTwins(), optim=MUON, epochs=200, batch_size=256)
