"""VICReg: two views should meet, every coordinate should vary, and no two coordinates should vary together.

With Z, Z' the projections of B pictures' two views (B x D) and C(Z) the covariance matrix of Z,

    invariance   s = mean (Z - Z')^2
    variance     v = mean_i max(0, 1 - sqrt(C_ii + 1e-4))
    covariance   c = 1/D sum_{i != j} C_ij^2
    loss = 25 s(Z, Z') + 25 [v(Z) + v(Z')] / 2 + [c(Z) + c(Z')]

(weights and means as in the authors' experiments; their text sums s over coordinates). The variance term forbids the
answer that is the same for all, the covariance term the answer that says one thing D times.

Bardes, Ponce and LeCun, "VICReg: variance-invariance-covariance regularization for self-supervised learning", 2021
(https://arxiv.org/abs/2105.04906).
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.config import Optim, Recipe, bound
from headway.draws import Draws
from headway.measure.health import dimensions, spread
from headway.nn.heads import projector
from headway.nn.moments import centred, cross_covariance
from headway.nn.numerics import wide
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, PretextTask
from headway.views.augment import Augment, byol
from headway.views.pair import Pair, deal_pair


@dataclass(frozen=True)
class VICReg:
    """Choices of VICReg."""

    invariance: float = 25.0
    """Weight of s."""
    variance: float = 25.0
    """Weight of v."""
    covariance: float = 1.0
    """Weight of c."""
    projection: int = 1024
    """Width of the projector's three layers, D (8192 in the paper, for networks many times wider than ours)."""
    augments: tuple[Augment, Augment] | None = None
    """How the two views are made; none: BYOL's two kinds."""

    def __post_init__(self) -> None:
        bound(self, "invariance variance covariance", at_least=0)
        bound(self, "projection", at_least=1)

    def build(self, backbone: Backbone, facts: Facts) -> "VICRegTask":
        """Make the task: a projector of three layers."""
        return VICRegTask(self, backbone.embed_dim, facts.size)


class VICRegTask(PretextTask):
    """Meet, vary, and vary independently."""

    couples_batch: ClassVar[bool] = True
    minimum_batch: ClassVar[int] = 2

    def __init__(self, config: VICReg, width: int, size: int):
        super().__init__()
        self.config, self.size = config, size
        self.augments = config.augments or byol(size)
        self.projector = projector([width, *[config.projection] * 3])

    def views(self, batch: Batch, draws: Draws) -> Pair:
        """Two crops of each picture, one of each kind."""
        return deal_pair(batch, draws, self.size, *self.augments)

    def forward(self, backbone: Backbone, views: Pair, clock: Clock) -> Outcome:
        """The weighted sum of the three terms."""
        features = backbone(views.images).pooled.chunk(2)  # B D each; batch norms see one view at a time
        first, second = (wide(self.projector(view)) for view in features)  # B E each
        invariance = F.mse_loss(first, second)
        one, other = regularity(first), regularity(second)
        loss = (
            self.config.invariance * invariance
            + self.config.variance * (one.variance + other.variance) / 2
            + self.config.covariance * (one.covariance + other.covariance)
        )
        metrics = {
            "invariance": invariance.detach(),
            "deviation": one.deviation,  # 1 is what v asks for, 0 is collapse
            "dimensions": one.dimensions,
            "spread": spread(features[0]),
        }
        return Outcome(loss, metrics)


class Regularity(NamedTuple):
    """How one view's projections vary.

    Attributes:
        variance: v above.
        covariance: c above.
        deviation: The mean standard deviation of a coordinate, detached.
        dimensions: Over how many directions the variance is spread, detached.
    """

    variance: Tensor
    covariance: Tensor
    deviation: Tensor
    dimensions: Tensor


def regularity(z: Tensor) -> Regularity:
    """The v and c of B D projections, over the pictures of all processes (two at least)."""
    z = centred(z)
    covariance = cross_covariance(z, z, spare=1)  # D D
    deviation = (covariance.diagonal() + 1e-4).sqrt()  # D
    others = covariance - torch.diag(covariance.diagonal())
    return Regularity(
        F.relu(1 - deviation).mean(), others.square().sum() / len(others),
        deviation.mean().detach(), dimensions(covariance),
    )  # fmt: skip


RECIPE = Recipe(task=VICReg(), optim=Optim(method="muon", lr=4e-3, weight_decay=0.05), epochs=200, batch=256)
