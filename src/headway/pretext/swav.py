"""SwAV: sort a batch evenly into prototypes, then name from one crop the prototype that another crop was sorted into.

With cosines S between projections and prototypes, codes Q = sinkhorn(S / e) of the large crops (every prototype gets
its share, so that one cannot take all) and P = softmax(S / t),

    loss = mean over pairs of crops x != x', x large, of  - sum_k Q(x)[k] log P(x')[k]

No gradient flows through codes. Where the batch is small beside the prototypes, the projections of earlier batches wait
in a queue and are sorted with it.

Caron, Misra, Mairal, Goyal, Bojanowski and Joulin, "Unsupervised learning of visual features by contrasting cluster
assignments", 2020 (https://arxiv.org/abs/2006.09882).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from headway.config import Optim, Recipe, bound
from headway.distributed import all_rows, rank, world
from headway.draws import Draws
from headway.measure.health import entropies, spread
from headway.nn.heads import cosines, held, projector
from headway.nn.numerics import unit
from headway.nn.sinkhorn import sinkhorn
from headway.pretext.dino import cross_view_entropy
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, PretextTask
from headway.views.augment import Augment, simclr
from headway.views.crops import Crops, deal_crops, small_side


@dataclass(frozen=True)
class SwAV:
    """Choices of SwAV."""

    prototypes: int = 0
    """K; 0: 3000 for the paper's 1.28 million pictures, and by the square root of their number for others, from 32."""
    hidden: int = 512
    """Hidden width of the projector (2048 in the paper, for networks many times wider than ours)."""
    projection: int = 128
    """Width of the vector that is compared with prototypes."""
    small_crops: int = 4
    """Small crops a picture (6 in the paper)."""
    large_scale: tuple[float, float] = (0.3, 1.0)
    """Share of the area in a large crop (from 0.14 in the paper, where pictures have many times the pixels)."""
    small_scale: tuple[float, float] = (0.08, 0.3)
    """Share of the area in a small crop (0.05 to 0.14 in the paper)."""
    temperature: float = 0.1
    """t above."""
    epsilon: float = 0.05
    """e above: the lower, the harder the codes."""
    iterations: int = 3
    """Rounds of Sinkhorn and Knopp."""
    queue: int | None = None
    """Projections that wait beside the batch; none: as many as there are prototypes, 0: no queue."""
    queue_from: float = 0.1
    """Share of the run after which the queue counts: what a young network said misleads."""
    freeze: float = 0.01
    """Share of the run during which the prototypes stand still."""
    augment: Augment | None = None
    """What is done to crops; none: SimCLR's, as in the paper."""

    def __post_init__(self) -> None:
        bound(self, "prototypes small_crops iterations queue", at_least=0)
        bound(self, "hidden projection", at_least=1)
        bound(self, "large_scale small_scale", above=0, at_most=1, rising=True)
        bound(self, "temperature epsilon", above=0)
        bound(self, "queue_from freeze", at_least=0, at_most=1)

    def build(self, backbone: Backbone, facts: Facts) -> "SwAVTask":
        """Make the task: a projector, prototypes, and a queue."""
        return SwAVTask(self, backbone, facts)


class SwAVTask(PretextTask):
    """Name the drawer that another crop was put into."""

    couples_batch: ClassVar[bool] = True
    minimum_batch: ClassVar[int] = 2

    def __init__(self, config: SwAV, backbone: Backbone, facts: Facts):
        super().__init__()
        self.config = config
        self.sides = facts.size, small_side(facts.size, backbone.patch_size)
        self.augment = config.augment or simclr(facts.size)
        self.projector = projector([backbone.embed_dim, config.hidden, config.projection])
        count = config.prototypes or max(round(3000 * math.sqrt(facts.count / 1_281_167)), 32)
        self.prototypes = nn.Parameter(torch.randn(count, config.projection))  # K E
        self.queue: Tensor
        length = count if config.queue is None else config.queue
        self.register_buffer("queue", torch.zeros(2, length, config.projection))  # 2 L E, one for each large crop
        self.phases = (0.0, config.queue_from) if length and 0 < config.queue_from < 1 else (0.0,)

    def views(self, batch: Batch, draws: Draws) -> Crops:
        """Two large crops and several small ones of each picture."""
        config = self.config
        scales = (config.large_scale, config.small_scale)
        return deal_crops(batch.images, draws, self.sides, config.small_crops, scales, self.augment)

    def forward(self, backbone: Backbone, views: Crops, clock: Clock) -> Outcome:
        """Cross-entropy of every crop's answer under the codes of the other large crops."""
        config, count = self.config, len(views.large) // 2
        pooled = torch.cat([backbone(crops).pooled for crops in (views.large, views.small) if len(crops)])  # V*B D
        projected = unit(self.projector(pooled))  # V*B E
        prototypes = held(self.prototypes) if clock.progress < config.freeze else self.prototypes
        scores = cosines(projected, prototypes)  # V*B K
        large = scores[: 2 * count].reshape(2, count, -1)  # 2 B K
        codes = self._codes(large, cosines(self._waiting(clock), prototypes))  # 2 B K
        answers = (scores / config.temperature).log_softmax(-1).reshape(-1, count, scores.shape[-1])  # V B K
        metrics = {
            "label_entropy": entropies(codes)["answer_entropy"],
            **entropies(answers[:2].exp()),
            "spread": spread(pooled[:count]),
        }
        carry = projected[: 2 * count].detach().reshape(2, count, -1).transpose(0, 1)  # B 2 E
        return Outcome(cross_view_entropy(codes, answers), metrics, carry)

    def after_step(self, backbone: Backbone, carries: Sequence[Tensor], clock: Clock) -> None:
        """The newest projections of all processes join the queue, the oldest leave it."""
        newest, _ = all_rows(torch.cat(list(carries)))  # A 2 E
        queue = torch.cat([newest.transpose(0, 1).to(self.queue.dtype), self.queue], dim=1)  # 2 A+L E
        self.queue.copy_(queue[:, : self.queue.shape[1]])

    def _codes(self, scores: Tensor, waiting: Tensor) -> Tensor:
        """Sort each large crop's 2 B K together with the 2 W K that wait: 2 B K, without gradient."""
        rows = torch.cat([scores, waiting], dim=1).detach()  # 2 B+W K
        codes = [sinkhorn(view, self.config.epsilon, self.config.iterations) for view in rows]
        return torch.stack(codes)[:, : scores.shape[1]]

    def _waiting(self, clock: Clock) -> Tensor:
        """This process's part of the queue, 2 W E; none of it before the queue is full, and early in the run."""
        oldest = self.queue[:, -1:]  # 2 1 E: 0 until projections, of length 1, have come that far
        ready = clock.progress >= self.config.queue_from and bool(oldest.any(-1).all())
        return self.queue[:, rank() :: world()] if ready else self.queue[:, :0]


RECIPE = Recipe(task=SwAV(), optim=Optim(method="muon", lr=4e-3, weight_decay=0.05), epochs=200, batch=256)
