"""DINO: a student that sees small crops should say what its own slow average says of large ones.

With P_t = softmax((g_t(x) - c) / t_t) the teacher's answer on a large crop, P_s = softmax(g_s(x') / t_s) the student's
on another crop of the same picture, small or large,

    loss = mean over pairs of crops x != x' of  - sum_k P_t[k] log P_s[k]

The teacher's weights are an exponential moving average of the student's; the centre c, a moving average of the
teacher's answers, keeps one prototype from taking all; the low temperature t_t keeps answers from becoming uniform.

Caron, Touvron, Misra, Jegou, Mairal, Bojanowski and Joulin, "Emerging properties in self-supervised vision
transformers", 2021 (https://arxiv.org/abs/2104.14294).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headway.config import Optim, Recipe, bound
from headway.distributed import carried_mean, carried_sum
from headway.draws import Draws
from headway.measure.health import entropies, spread
from headway.nn.heads import PrototypeHead
from headway.nn.numerics import full_precision, wide
from headway.nn.teacher import Teacher, centre_momentum, teacher_momentum
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, Panel, PretextTask
from headway.schedule import ramp
from headway.views.crops import Crops, deal_crops, small_side
from headway.views.geometry import centre_resize


@dataclass(frozen=True)
class DINO:
    """Choices of DINO."""

    prototypes: int = 0
    """K; 0: the power of two nearest to pictures / 16, from 64 to 65,536 (the paper's, for 1.28 million pictures)."""
    hidden: int = 512
    """Hidden width of the head (2048 in the paper, for networks many times wider than ours)."""
    bottleneck: int = 128
    """Width of the vector that is compared with prototypes (256 in the paper)."""
    small_crops: int = 4
    """Small crops a picture (up to 10 in the paper)."""
    large_scale: tuple[float, float] = (0.3, 1.0)
    """Share of the area in a large crop."""
    small_scale: tuple[float, float] = (0.08, 0.3)
    """Share of the area in a small crop."""
    student_temperature: float = 0.1
    """t_s."""
    teacher_temperature: tuple[float, float] = (0.04, 0.04)
    """t_t at the start and after warm-up."""
    temperature_warmup: float = 0.1
    """Share of the run over which t_t moves from its first to its second value."""
    momentum: float = 0.996
    """Of the teacher at the start of a long run; rises to 1 (``nn.teacher``)."""
    memory: float = 1 / 40
    """Share of the run that the teacher remembers at the start, at most."""
    centre_momentum: float = 0.9
    """Of the centre, at most: it keeps ahead of the teacher (``nn.teacher``)."""
    freeze: float = 0.01
    """Share of the run during which the prototypes stand still."""

    def __post_init__(self) -> None:
        bound(self, "prototypes small_crops", at_least=0)
        bound(self, "hidden bottleneck", at_least=1)
        bound(self, "large_scale small_scale", above=0, at_most=1, rising=True)
        bound(self, "student_temperature teacher_temperature", above=0)
        bound(self, "temperature_warmup momentum memory centre_momentum freeze", at_least=0, at_most=1)

    def build(self, backbone: Backbone, facts: Facts) -> "DINOTask":
        """Make the task: a head, and copies of backbone and head as the teacher."""
        return DINOTask(self, backbone, facts)


class DINOTask(PretextTask):
    """Agree with your own past self about what a crop shows."""

    def __init__(self, config: DINO, backbone: Backbone, facts: Facts):
        super().__init__()
        assert isinstance(backbone, nn.Module)
        self.config = config
        self.prototypes = config.prototypes or prototypes_for(facts.count)
        self.sides = facts.size, small_side(facts.size, backbone.patch_size)
        self.head = PrototypeHead(backbone.embed_dim, self.prototypes, config.hidden, config.bottleneck)
        self.teacher, self.teacher_head = Teacher(backbone), Teacher(self.head)
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(self.prototypes))

    def views(self, batch: Batch, draws: Draws) -> Crops:
        """Two large crops and several small ones of each picture."""
        config = self.config
        scales = (config.large_scale, config.small_scale)
        return deal_crops(batch.images, draws, self.sides, config.small_crops, scales)

    def forward(self, backbone: Backbone, views: Crops, clock: Clock) -> Outcome:
        """Cross-entropy of the student's answers under the teacher's, over all pairs of different crops."""
        count = len(views.large) // 2
        answers = wide(self.teacher_head(self.teacher(views.large).pooled))  # 2*B K
        teacher = ((answers - self.centre) / self._temperature(clock)).softmax(-1).reshape(2, count, -1)  # 2 B K
        pooled = [backbone(crops).pooled for crops in (views.large, views.small) if len(crops)]
        frozen = clock.progress < self.config.freeze
        logits = wide(self.head(torch.cat(pooled), freeze=frozen)) / self.config.student_temperature  # V*B K
        loss = cross_view_entropy(teacher, logits.log_softmax(-1).reshape(-1, count, self.prototypes))
        metrics = {**entropies(teacher), "spread": spread(pooled[0][:count])}
        return Outcome(loss, metrics, carried_sum(answers))

    def after_step(self, backbone: Backbone, carries: Sequence[tuple[Tensor, Tensor]], clock: Clock) -> None:
        """Move the teacher after the student and the centre after the teacher's answers."""
        assert isinstance(backbone, nn.Module)
        momentum = teacher_momentum(clock, self.config.momentum, self.config.memory)
        self.teacher.update(backbone, momentum)
        self.teacher_head.update(self.head, momentum)
        slow = centre_momentum(momentum, self.config.centre_momentum)
        self.centre.lerp_(carried_mean(carries).to(self.centre.dtype), 1 - slow)

    def panels(self, batch: Batch, views: Crops, backbone: Backbone | None = None) -> list[Panel]:
        """The picture and its crops; with the network the likeliest prototype of each: the teacher's, the student's.

        Right is a small crop on which the student names what the teacher finds likeliest on both large ones together.
        """
        b = len(batch.images)
        large, small = views.large.split(b), views.small.split(b) if len(views.small) else ()  # B C S S and B C s s
        said: list[list[str]] = [[] for _ in (*large, *small)]
        if backbone is not None:
            answers = wide(self.teacher_head(self.teacher(views.large).pooled))  # 2*B K
            teacher = (
                ((answers - self.centre) / self._temperature(Clock(1, 1, 0.0))).softmax(-1).unflatten(0, (2, b))
            )  # 2 B K
            labels = teacher.sum(0).argmax(1)  # B
            said = [
                [f"teacher: {k}, {100 * p:.0f} %" for p, k in zip(*map(Tensor.tolist, crop.max(1)), strict=True)]
                for crop in teacher
            ]
            for crop in small:
                student = wide(self.head(backbone(crop).pooled)) / self.config.student_temperature  # B K
                chances, guesses = student.softmax(-1).max(1)  # B each
                marks = ["right" if hit else "wrong" for hit in (guesses == labels).tolist()]
                said.append([
                    f"{k}, {100 * p:.0f} %, {mark}"
                    for k, p, mark in zip(guesses.tolist(), chances.tolist(), marks, strict=True)
                ])  # fmt: skip
        titles = [f"large crop {i}" for i in range(1, 3)] + [f"small {i}" for i in range(1, len(small) + 1)]
        crops = [Panel(*column) for column in zip(titles, (*large, *small), said, strict=True)]
        return [Panel("the picture", centre_resize(batch.images, views.large.shape[-1])), *crops]

    def _temperature(self, clock: Clock) -> float:
        return ramp(clock.progress, self.config.temperature_warmup, *self.config.teacher_temperature)


def prototypes_for(count: int) -> int:
    """K for so many pictures: the power of two nearest to a sixteenth of them, from 64 to 65,536."""
    return int(2 ** min(max(round(math.log2(max(count, 1) / 16)), 6), 16))


@full_precision
def cross_view_entropy(teacher: Tensor, student: Tensor) -> Tensor:
    """The mean of - sum_k P_t log P_s over pictures and over pairs of different crops.

    Args:
        teacher: 2 B K, probabilities on the large crops.
        student: V B K, log-probabilities on all crops, the large ones first and in the same order.
    """
    pairs = -torch.einsum("tbk,vbk->tv", teacher, student) / teacher.shape[1]  # 2 V
    different = ~torch.eye(*pairs.shape, dtype=torch.bool, device=pairs.device)
    return pairs[different].mean()


RECIPE = Recipe(
    task=DINO(),
    optim=Optim(method="muon", lr=4e-3, weight_decay=0.04, final_decay=0.4, betas=(0.9, 0.999), warmup=0.1),
    epochs=100,
    batch=64,
    pool="class",
)
