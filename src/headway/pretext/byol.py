"""BYOL: foretell what a slow copy of yourself makes of another view; no picture is compared with any other.

With p = predictor(projector(student(x))) and t' = the teacher's projection of the other view x',

    loss = (2 - 2 cos(p, t')) + (2 - 2 cos(p', t))

The teacher is a moving average of backbone and projector. That and the predictor, which the teacher lacks, keep the
network from answering the same to everything, which would be a perfect score.

Grill, Strub, Altche, Tallec, Richemond, Buchatskaya, Doersch, Pires, Guo, Azar, Piot, Kavukcuoglu, Munos and Valko,
"Bootstrap your own latent: a new approach to self-supervised learning", 2020 (https://arxiv.org/abs/2006.07733).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from headway.config import Optim, Recipe, bound
from headway.draws import Draws
from headway.measure.health import spread
from headway.nn.heads import projector
from headway.nn.numerics import likeness
from headway.nn.teacher import Teacher, teacher_momentum
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, PretextTask
from headway.views.augment import Augment, byol
from headway.views.pair import Pair, deal_pair


@dataclass(frozen=True)
class BYOL:
    """Choices of BYOL."""

    hidden: int = 512
    """Hidden width of projector and predictor (4096 in the paper, for networks many times wider than ours)."""
    projection: int = 128
    """Width of p and t (256 in the paper)."""
    momentum: float = 0.996
    """Of the teacher at the start of a long run; rises to 1 (``nn.teacher``)."""
    memory: float = 1 / 40
    """Share of the run that the teacher remembers at the start, at most."""
    augments: tuple[Augment, Augment] | None = None
    """How the two views are made; none: the paper's two kinds."""

    def __post_init__(self) -> None:
        bound(self, "momentum memory", at_least=0, at_most=1)
        bound(self, "hidden projection", at_least=1)

    def build(self, backbone: Backbone, facts: Facts) -> "BYOLTask":
        """Make the task: projector, predictor, and copies of backbone and projector as the teacher."""
        return BYOLTask(self, backbone, facts.size)


class BYOLTask(PretextTask):
    """Foretell your slow copy."""

    couples_batch: ClassVar[bool] = True  # by the batch norms of projector and predictor
    minimum_batch: ClassVar[int] = 2

    def __init__(self, config: BYOL, backbone: Backbone, size: int):
        super().__init__()
        assert isinstance(backbone, nn.Module)
        self.config, self.size = config, size
        self.augments = config.augments or byol(size)
        self.projector = projector([backbone.embed_dim, config.hidden, config.projection])
        self.predictor = projector([config.projection, config.hidden, config.projection])
        self.teacher, self.teacher_projector = Teacher(backbone), Teacher(self.projector)

    def views(self, batch: Batch, draws: Draws) -> Pair:
        """Two crops of each picture, one of each kind."""
        return deal_pair(batch, draws, self.size, *self.augments)

    def forward(self, backbone: Backbone, views: Pair, clock: Clock) -> Outcome:
        """Each view foretells the teacher's projection of the other."""
        features = backbone(views.images).pooled.chunk(2)  # B D each; batch norms see one view at a time
        first, second = (self.predictor(self.projector(view)) for view in features)  # B E each
        targets = [self.teacher_projector(view) for view in self.teacher(views.images).pooled.chunk(2)]  # B E each
        loss = bootstrap(first, targets[1]) + bootstrap(second, targets[0])
        metrics = {
            "likeness": 1 - loss.detach() / 4,
            "spread": spread(features[0]),
            "target_spread": spread(targets[1]),
        }
        return Outcome(loss, metrics)

    def after_step(self, backbone: Backbone, carries: Sequence[Any], clock: Clock) -> None:
        """Move the teacher after the student."""
        assert isinstance(backbone, nn.Module)
        momentum = teacher_momentum(clock, self.config.momentum, self.config.memory)
        self.teacher.update(backbone, momentum)
        self.teacher_projector.update(self.projector, momentum)


def bootstrap(predictions: Tensor, targets: Tensor) -> Tensor:
    """The mean of |p / |p| - t / |t||^2 = 2 - 2 cos(p, t) over pictures: B E and B E -> a scalar in [0, 4]."""
    return (2 - 2 * likeness(predictions, targets)).mean()


RECIPE = Recipe(task=BYOL(), optim=Optim(method="muon", lr=4e-3, weight_decay=0.05), epochs=200, batch=256)
