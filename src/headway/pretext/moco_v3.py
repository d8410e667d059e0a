"""MoCo v3: find your own picture among a slow copy's views of the whole batch.

With q = predictor(student(x)) and k = teacher(x'), both normalised, and k+ the key of q's own picture,

    ctr(q, k) = - 2 t  mean log  exp(q . k+ / t) / sum_k exp(q . k / t),        loss = ctr(q1, k2) + ctr(q2, k1)

The teacher is a moving average of backbone and projector. The keys are those of the batch: no queue is kept.

Chen, Xie and He, "An empirical study of training self-supervised vision transformers", 2021
(https://arxiv.org/abs/2104.02057).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.config import Optim, Recipe, bound
from headway.distributed import all_rows, repeated
from headway.draws import Draws
from headway.measure.health import spread
from headway.nn.heads import projector
from headway.nn.numerics import full_precision, unit
from headway.nn.teacher import Teacher, teacher_momentum
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, PretextTask
from headway.views.augment import Augment, byol
from headway.views.pair import Pair, deal_pair


@dataclass(frozen=True)
class MoCoV3:
    """Choices of MoCo v3."""

    temperature: float = 0.2
    """t above."""
    hidden: int = 512
    """Hidden width of projector and predictor (4096 in the paper, for networks many times wider than ours)."""
    projection: int = 128
    """Width of q and k (256 in the paper)."""
    momentum: float = 0.99
    """Of the teacher at the start of a long run; rises to 1 (``nn.teacher``)."""
    memory: float = 1 / 40
    """Share of the run that the teacher remembers at the start, at most."""
    augments: tuple[Augment, Augment] | None = None
    """How the two views are made; none: BYOL's two kinds, as in the paper."""

    def __post_init__(self) -> None:
        bound(self, "temperature", above=0)
        bound(self, "momentum memory", at_least=0, at_most=1)
        bound(self, "hidden projection", at_least=1)

    def build(self, backbone: Backbone, facts: Facts) -> "MoCoV3Task":
        """Make the task: projector, predictor, and copies of backbone and projector as the teacher."""
        return MoCoV3Task(self, backbone, facts.size)


class MoCoV3Task(PretextTask):
    """Find your own picture in the teacher's eyes."""

    couples_batch: ClassVar[bool] = True
    minimum_batch: ClassVar[int] = 2

    def __init__(self, config: MoCoV3, backbone: Backbone, size: int):
        super().__init__()
        assert isinstance(backbone, nn.Module)
        self.config, self.size = config, size
        self.augments = config.augments or byol(size)
        hidden, out = config.hidden, config.projection
        self.projector = projector([backbone.embed_dim, hidden, hidden, out], last_norm=True, last_affine=False)
        self.predictor = projector([out, hidden, out], last_norm=True, last_affine=False)
        self.teacher, self.teacher_projector = Teacher(backbone), Teacher(self.projector)

    def views(self, batch: Batch, draws: Draws) -> Pair:
        """Two crops of each picture, one of each kind."""
        return deal_pair(batch, draws, self.size, *self.augments)

    def forward(self, backbone: Backbone, views: Pair, clock: Clock) -> Outcome:
        """Both views ask; the teacher's other view of the same picture is the answer."""
        features = backbone(views.images).pooled.chunk(2)  # B D each; batch norms see one view at a time
        queries = [self.predictor(self.projector(view)) for view in features]  # B E each
        keys = [self.teacher_projector(view) for view in self.teacher(views.images).pooled.chunk(2)]  # B E each
        first, agreement = contrast(queries[0], keys[1], self.config.temperature, views.number)
        second, _ = contrast(queries[1], keys[0], self.config.temperature, views.number)
        metrics = {"agreement": agreement, "spread": spread(features[0]), "target_spread": spread(keys[1])}
        return Outcome(first + second, metrics)

    def after_step(self, backbone: Backbone, carries: Sequence[Any], clock: Clock) -> None:
        """Move the teacher after the student."""
        assert isinstance(backbone, nn.Module)
        momentum = teacher_momentum(clock, self.config.momentum, self.config.memory)
        self.teacher.update(backbone, momentum)
        self.teacher_projector.update(self.projector, momentum)


@full_precision
def contrast(queries: Tensor, keys: Tensor, temperature: float, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The ctr above: the cross-entropy of naming one's own key among those of all processes, times 2 t.

    Args:
        queries: B E, of this process's pictures; not normalised.
        keys: B E, of the same pictures, without gradient.
        temperature: t > 0.
        index: B, int64, the picture of each row: one that is there twice is no stranger to itself; none: all differ.

    Returns:
        The mean loss over this process's queries, and the share of queries whose own key is the nearest.
    """
    everyone, start = all_rows(unit(keys))  # A E, A pictures over all processes
    logits = unit(queries) @ everyone.T / temperature  # B A
    if index is not None:
        logits = logits.masked_fill(repeated(index), float("-inf"))
    own = torch.arange(start, start + len(queries), device=queries.device)  # B
    agreement = (logits.argmax(1) == own).float().mean()
    return 2 * temperature * F.cross_entropy(logits, own), agreement


RECIPE = Recipe(task=MoCoV3(), optim=Optim(method="muon", lr=4e-3, weight_decay=0.05), epochs=200, batch=256)
