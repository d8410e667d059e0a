"""SimSiam: foretell your own projection of another view; stopping the gradient there is all that prevents collapse.

With z = projector(backbone(x)), p = predictor(z) and sg the stop of the gradient,

    loss = - 1/2 cos(p, sg(z')) - 1/2 cos(p', sg(z))

BYOL without a teacher. Without sg the network soon gives one answer to all: watch ``target_spread``.

Chen and He, "Exploring simple Siamese representation learning", 2020 (https://arxiv.org/abs/2011.10566).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from headway.config import Optim, Recipe, bound
from headway.draws import Draws
from headway.measure.health import spread
from headway.nn.heads import projector
from headway.nn.numerics import likeness
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, PretextTask
from headway.views.augment import Augment, simsiam
from headway.views.pair import Pair, deal_pair


@dataclass(frozen=True)
class SimSiam:
    """Choices of SimSiam."""

    projection: int = 512
    """Width of the projector, of z and of p (2048 in the paper, for networks many times wider than ours)."""
    bottleneck: int = 128
    """Hidden width of the predictor: a quarter of ``projection``, as in the paper."""
    augment: Augment | None = None
    """How views are made; none: the paper's, without blur where the view is 32 pixels or less."""

    def __post_init__(self) -> None:
        bound(self, "projection bottleneck", at_least=1)

    def build(self, backbone: Backbone, facts: Facts) -> "SimSiamTask":
        """Make the task: a projector of three layers and a predictor with a bottleneck."""
        return SimSiamTask(self, backbone.embed_dim, facts.size)


class SimSiamTask(PretextTask):
    """Foretell yourself."""

    couples_batch: ClassVar[bool] = True  # by the batch norms of projector and predictor
    minimum_batch: ClassVar[int] = 2

    def __init__(self, config: SimSiam, width: int, size: int):
        super().__init__()
        self.size = size
        self.augment = config.augment or simsiam(size)
        out = config.projection
        self.projector = projector([width, out, out, out], last_norm=True, last_affine=False)
        self.predictor = projector([out, config.bottleneck, out])

    def views(self, batch: Batch, draws: Draws) -> Pair:
        """Two independent crops of each picture."""
        return deal_pair(batch, draws, self.size, self.augment, self.augment)

    def forward(self, backbone: Backbone, views: Pair, clock: Clock) -> Outcome:
        """Each view foretells the other's projection."""
        features = backbone(views.images).pooled.chunk(2)  # B D each; batch norms see one view at a time
        first, second = (self.projector(view) for view in features)  # B E each
        loss = (apart(self.predictor(first), second) + apart(self.predictor(second), first)) / 2
        metrics = {"likeness": -loss.detach(), "spread": spread(features[0]), "target_spread": spread(second)}
        return Outcome(loss, metrics)


def apart(predictions: Tensor, projections: Tensor) -> Tensor:
    """The mean of - cos(p, sg(z)) over pictures: B E and B E -> a scalar in [-1, 1]."""
    return -likeness(predictions, projections.detach()).mean()


RECIPE = Recipe(task=SimSiam(), optim=Optim(method="muon", lr=4e-3, weight_decay=0.05), epochs=200, batch=256)
