"""Barlow Twins: each number of the answer should be the same for both views, and tell something that no other tells.

With z and z' the two views' projections, each of the D coordinates brought to mean 0 and variance 1 over the batch, and
C = mean over pictures of z z'^T their cross-correlation,

    loss = 1/D [ sum_i (1 - C_ii)^2  +  lambda sum_{i != j} C_ij^2 ]

(the paper leaves out the 1/D, which keeps gradients alike for all widths). A coordinate has one place on C's diagonal
and D - 1 beside it, so the paper's lambda of 0.0051 belongs to its D of 8192. For other D it is 0.0051 x 8192 / D here:
saying one thing D times then costs what it costs there, against the same price of disagreement.

Zbontar, Jing, Misra, LeCun and Deny, "Barlow Twins: self-supervised learning via redundancy reduction", 2021
(https://arxiv.org/abs/2103.03230).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from headway.config import Optim, Recipe, bound
from headway.distributed import all_mean
from headway.draws import Draws
from headway.measure.health import spread
from headway.nn.heads import projector
from headway.nn.moments import centred, cross_covariance
from headway.nn.numerics import full_precision
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, PretextTask
from headway.views.augment import Augment, byol
from headway.views.pair import Pair, deal_pair

PAPERS_WIDTH = 8192
"""D for which the paper gives its lambda."""


@dataclass(frozen=True)
class BarlowTwins:
    """Choices of Barlow Twins."""

    redundancy: float = 0.0051
    """lambda at D = 8192: the price of two coordinates telling the same. For other D it is this x 8192 / D."""
    projection: int = 1024
    """Width of the projector's three layers, D (8192 in the paper, for networks many times wider than ours)."""
    augments: tuple[Augment, Augment] | None = None
    """How the two views are made; none: BYOL's two kinds, as in the paper."""

    def __post_init__(self) -> None:
        bound(self, "redundancy", at_least=0)
        bound(self, "projection", at_least=1)

    def build(self, backbone: Backbone, facts: Facts) -> "BarlowTwinsTask":
        """Make the task: a projector of three layers."""
        return BarlowTwinsTask(self, backbone.embed_dim, facts.size)


class BarlowTwinsTask(PretextTask):
    """Agree on every coordinate, and repeat none."""

    couples_batch: ClassVar[bool] = True
    minimum_batch: ClassVar[int] = 2

    def __init__(self, config: BarlowTwins, width: int, size: int):
        super().__init__()
        self.size, self.redundancy = size, config.redundancy * PAPERS_WIDTH / config.projection
        self.augments = config.augments or byol(size)
        self.projector = projector([width, *[config.projection] * 3])

    def views(self, batch: Batch, draws: Draws) -> Pair:
        """Two crops of each picture, one of each kind."""
        return deal_pair(batch, draws, self.size, *self.augments)

    def forward(self, backbone: Backbone, views: Pair, clock: Clock) -> Outcome:
        """Bring the cross-correlation of the two views near the identity."""
        features = backbone(views.images).pooled.chunk(2)  # B D each; batch norms see one view at a time
        first, second = (self.projector(view) for view in features)  # B E each
        correlation = cross_correlation(first, second)  # E E
        same, repeated = twin_terms(correlation)
        metrics = {
            "correlation": correlation.diagonal().mean().detach(),  # 1 where the views agree
            "redundancy": (repeated.detach() / max(len(correlation) - 1, 1)).sqrt(),  # 0 where coordinates differ
            "spread": spread(features[0]),
        }
        return Outcome(same + self.redundancy * repeated, metrics)


@full_precision
def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """C above, over the pictures of all processes: B D and B D -> D D."""
    return cross_covariance(standardised(first), standardised(second))


def standardised(x: Tensor) -> Tensor:
    """Each coordinate at mean 0 and variance 1 over the pictures of all processes (a batch norm without weights)."""
    x = centred(x)
    return x * (all_mean(x.square()) + 1e-5).rsqrt()


def twin_terms(correlation: Tensor) -> tuple[Tensor, Tensor]:
    """(1/D sum_i (1 - C_ii)^2, 1/D sum_{i != j} C_ij^2) of C: D D."""
    diagonal = correlation.diagonal()  # D
    others = correlation - torch.diag(diagonal)
    return (1 - diagonal).square().mean(), others.square().sum() / len(correlation)


RECIPE = Recipe(task=BarlowTwins(), optim=Optim(method="muon", lr=4e-3, weight_decay=0.05), epochs=200, batch=256)
