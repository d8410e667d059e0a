"""VICReg: two views agree, every coordinate varies, and no two coordinates covary.

With Z, Z' the projections of B images' two views (B x D) and C(Z) the covariance matrix of Z,

    invariance   s = mean (Z - Z')^2
    variance     v = mean_i max(0, 1 - sqrt(C_ii + 1e-4))
    covariance   c = 1/D sum_{i != j} C_ij^2
    loss = 25 s(Z, Z') + 25 [v(Z) + v(Z')] / 2 + [c(Z) + c(Z')]

Weights and means are those of the authors' experiments; their text sums s over coordinates. The variance term prevents
a constant output, the covariance term prevents redundant coordinates.

Bardes, Ponce and LeCun, "VICReg: variance-invariance-covariance regularization for self-supervised learning", 2021
(https://arxiv.org/abs/2105.04906).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.config import MUON, Recipe, check_range
from headway.losses.moments import center_batch, cross_covariance
from headway.metrics.training_metrics import batch_feature_std, participation_ratio
from headway.nn.numerics import at_least_fp32
from headway.nn.projection_heads import projector
from headway.protocol import Backbone, Batch, DataInfo, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.augment import Augment, byol_augments
from headway.transforms.two_views import TwoViews, two_views


@dataclass(frozen=True)
class VICReg:
    """Configuration of VICReg."""

    invariance_weight: float = 25.0
    """Weight of s."""
    variance_weight: float = 25.0
    """Weight of v."""
    covariance_weight: float = 1.0
    """Weight of c."""
    projection_dim: int = 1024
    """Width of the projector's three layers, D (8192 in the paper, for networks many times wider than ours)."""
    augments: tuple[Augment, Augment] | None = None
    """Augmentations of the two views. None: those of BYOL."""

    def __post_init__(self) -> None:
        check_range(self, "invariance_weight variance_weight covariance_weight", at_least=0)
        check_range(self, "projection_dim", at_least=1)

    def build(self, backbone: Backbone, data_info: DataInfo) -> "VICRegTask":
        """Build the task: a projector of three layers."""
        return VICRegTask(self, backbone.embed_dim, data_info.input_size)


class VICRegTask(PretextTask):
    """Agree, vary, and vary independently."""

    batch_coupled = True
    min_batch_size = 2

    def __init__(self, config: VICReg, embed_dim: int, size: int):
        super().__init__()
        self.config, self.size = config, size
        self.augments = config.augments or byol_augments(size)
        self.projector = projector([embed_dim, *[config.projection_dim] * 3])

    def make_views(self, batch: Batch, rng: SampleRNG) -> TwoViews:
        """Two crops of each image, one with each augmentation."""
        return two_views(batch, rng, self.size, *self.augments)

    def forward(self, backbone: Backbone, views: TwoViews, clock: TrainingClock) -> TaskOutput:
        """The weighted sum of the three terms."""
        features = backbone(views.images).pooled.chunk(2)  # B D each; batch norms see one view at a time
        first, second = (at_least_fp32(self.projector(view)) for view in features)  # B E each
        invariance = F.mse_loss(first, second)
        first_terms, second_terms = variance_covariance(first), variance_covariance(second)
        loss = (
            self.config.invariance_weight * invariance
            + self.config.variance_weight * (first_terms.variance + second_terms.variance) / 2
            + self.config.covariance_weight * (first_terms.covariance + second_terms.covariance)
        )
        metrics = {
            "invariance": invariance.detach(),
            "coordinate_std": first_terms.coordinate_std,  # v's target is 1; 0 is collapse
            "participation_ratio": first_terms.participation_ratio,
            "feature_std": batch_feature_std(features[0]),
        }
        return TaskOutput(loss, metrics)


class VarianceCovariance(NamedTuple):
    """Variance and covariance terms of one view's projections.

    Attributes:
        variance: v above.
        covariance: c above.
        coordinate_std: The mean standard deviation of a coordinate, detached.
        participation_ratio: The number of directions over which the variance is spread, detached.
    """

    variance: Tensor
    covariance: Tensor
    coordinate_std: Tensor
    participation_ratio: Tensor


def variance_covariance(z: Tensor) -> VarianceCovariance:
    """The v and c of B D projections, over the images of all processes (two at least)."""
    z = center_batch(z)
    covariance = cross_covariance(z, z, correction=1)  # D D
    std = (covariance.diagonal() + 1e-4).sqrt()  # D
    off_diagonal = covariance - torch.diag(covariance.diagonal())
    return VarianceCovariance(
        F.relu(1 - std).mean(), off_diagonal.square().sum() / len(covariance),
        std.mean().detach(), participation_ratio(covariance),
    )  # fmt: skip


RECIPE = Recipe(task=VICReg(), optim=MUON, epochs=200, batch_size=256)
