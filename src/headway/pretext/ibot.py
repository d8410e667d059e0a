"""iBOT: DINO on whole pictures, and DINO once more on every patch that the student could not see.

With P_t = softmax((g_t(.) - c) / t_t) the teacher's answers, P_s = softmax(g_s(.) / t_s) the student's, u a large
crop, M the patches of it that are hidden from the student, and (.)_p the answer on the token of patch p,

    loss = mean over pairs of crops x != x' of  - sum_k P_t(x)[k] log P_s(x')[k]
         + mean_{p in M} - sum_k P_t(u)_p[k] log P_s(u with a learned token at M)_p[k]

So a patch's label is what it means in the whole picture. Pictures and patches share one head, but each has its own
centre c and temperature. Teacher's weights and centres are moving averages.

Zhou, Wei, Wang, Shen, Xie, Yuille and Kong, "iBOT: image BERT pre-training with online tokenizer", 2021
(https://arxiv.org/abs/2111.07832).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from headway.config import Optim, Recipe, bound
from headway.distributed import carried_mean, carried_sum
from headway.draws import Draws
from headway.measure.health import entropies, spread
from headway.nn.heads import PrototypeHead
from headway.nn.numerics import full_precision, wide
from headway.nn.teacher import Teacher, centre_momentum, teacher_momentum
from headway.pretext.dino import cross_view_entropy, prototypes_for
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, Panel, PretextTask
from headway.schedule import ramp
from headway.views.crops import MaskedCrops, masked_crops, small_side
from headway.views.masks import covered, grid_for


@dataclass(frozen=True)
class IBOT:
    """Choices of iBOT."""

    prototypes: int = 0
    """K; 0: the power of two nearest to pictures / 16, from 64 to 65,536 (8,192 in the paper)."""
    hidden: int = 512
    """Hidden width of the head (2048 in the paper, for networks many times wider than ours)."""
    bottleneck: int = 128
    """Width of the vector that is compared with prototypes (256 in the paper)."""
    small_crops: int = 4
    """Small crops a picture (10 in the paper)."""
    large_scale: tuple[float, float] = (0.3, 1.0)
    """Share of the area in a large crop."""
    small_scale: tuple[float, float] = (0.08, 0.3)
    """Share of the area in a small crop."""
    ratio: tuple[float, float] = (0.1, 0.5)
    """Share of the patches hidden in one of the two large crops: drawn once a step, the same for all pictures."""
    student_temperature: float = 0.1
    """t_s."""
    teacher_temperature: tuple[float, float] = (0.04, 0.04)
    """t_t of pictures at the start and after warm-up."""
    patch_temperature: tuple[float, float] = (0.04, 0.07)
    """t_t of patches at the start and after warm-up."""
    temperature_warmup: float = 0.3
    """Share of the run over which temperatures move from their first to their second value."""
    momentum: float = 0.996
    """Of the teacher at the start of a long run; rises to 1 (``nn.teacher``)."""
    memory: float = 1 / 40
    """Share of the run that the teacher remembers at the start, at most."""
    centre_momentum: float = 0.9
    """Of both centres, at most: they keep ahead of the teacher (``nn.teacher``)."""
    freeze: float = 0.01
    """Share of the run during which the prototypes stand still."""

    def __post_init__(self) -> None:
        bound(self, "prototypes small_crops", at_least=0)
        bound(self, "hidden bottleneck", at_least=1)
        bound(self, "large_scale small_scale", above=0, at_most=1, rising=True)
        bound(self, "ratio", above=0, below=1, rising=True)
        bound(self, "student_temperature teacher_temperature patch_temperature", above=0)
        bound(self, "temperature_warmup momentum memory centre_momentum freeze", at_least=0, at_most=1)

    def build(self, backbone: Backbone, facts: Facts) -> "IBOTTask":
        """Make the task: a mask token, one head, and copies of backbone and head as the teacher."""
        return IBOTTask(self, backbone, facts)


class IBOTTask(PretextTask):
    """Agree with your own past self about crops, and about patches that you have not seen."""

    needs: ClassVar[frozenset[str]] = frozenset({"mask"})

    def __init__(self, config: IBOT, backbone: Backbone, facts: Facts):
        super().__init__()
        assert isinstance(backbone, nn.Module)
        self.config, self.grid = config, grid_for(facts.size, backbone.patch_size)
        self.sides = facts.size, small_side(facts.size, backbone.patch_size)
        self.prototypes = config.prototypes or prototypes_for(facts.count)
        self.mask_token = nn.Parameter(torch.randn(backbone.fill_dim) * 0.02)
        self.head = PrototypeHead(backbone.embed_dim, self.prototypes, config.hidden, config.bottleneck)
        self.teacher, self.teacher_head = Teacher(backbone), Teacher(self.head)
        self.centre: Tensor
        self.patch_centre: Tensor
        self.register_buffer("centre", torch.zeros(self.prototypes))
        self.register_buffer("patch_centre", torch.zeros(self.prototypes))

    def views(self, batch: Batch, draws: Draws) -> MaskedCrops:
        """Two large crops, one of them with holes, and several small ones of each picture."""
        config = self.config
        scales = (config.large_scale, config.small_scale)
        return masked_crops(batch, draws, self.sides, self.grid, config.small_crops, scales, config.ratio)

    def forward(self, backbone: Backbone, views: MaskedCrops, clock: Clock) -> Outcome:
        """Cross-entropy under the teacher: over pairs of different crops, and over hidden patches."""
        config, count = self.config, len(views.large) // 2
        warm = clock.progress, config.temperature_warmup
        seen = self.teacher(views.large)
        answers = wide(self.teacher_head(seen.pooled))  # 2*B K
        patch_answers = wide(self.teacher_head(seen.patches[views.mask]))  # B*hidden K
        teacher = ((answers - self.centre) / ramp(*warm, *config.teacher_temperature)).softmax(-1)  # 2*B K
        labels = ((patch_answers - self.patch_centre) / ramp(*warm, *config.patch_temperature)).softmax(-1)

        large = backbone(views.large, mask=views.mask, fill=self.mask_token)
        pooled = [large.pooled, *([backbone(views.small).pooled] if len(views.small) else [])]
        tokens = torch.cat([*pooled, large.patches[views.mask]])  # V*B + B*hidden D
        logits = wide(self.head(tokens, freeze=clock.progress < config.freeze)) / config.student_temperature
        guesses, patch_guesses = logits.log_softmax(-1).split([len(logits) - len(labels), len(labels)])
        crops = cross_view_entropy(teacher.unflatten(0, (2, count)), guesses.unflatten(0, (-1, count)))
        patches = token_entropy(labels, patch_guesses)
        parts = {"crops": crops.detach(), "patches": patches.detach(), "spread": spread(large.pooled[:count])}
        carry = carried_sum(answers), carried_sum(patch_answers)
        return Outcome(crops + patches, {**parts, **health(teacher, labels)}, carry)

    def after_step(self, backbone: Backbone, carries: Sequence[Any], clock: Clock) -> None:
        """Move the teacher after the student, and each centre after the teacher's answers."""
        assert isinstance(backbone, nn.Module)
        momentum = teacher_momentum(clock, self.config.momentum, self.config.memory)
        self.teacher.update(backbone, momentum)
        self.teacher_head.update(self.head, momentum)
        slow = centre_momentum(momentum, self.config.centre_momentum)
        for centre, sums in zip((self.centre, self.patch_centre), zip(*carries, strict=True), strict=True):
            centre.lerp_(carried_mean(sums).to(centre.dtype), 1 - slow)

    def panels(self, batch: Batch, views: MaskedCrops, backbone: Backbone | None = None) -> list[Panel]:
        """The large crops as the student sees them, then the small ones; with the network, how it fares on patches."""
        lines: list[str] = []
        if backbone is not None:
            truth = self.teacher_head(self.teacher(views.large).patches[views.mask]) - self.patch_centre
            guess = self.head(backbone(views.large, mask=views.mask, fill=self.mask_token).patches[views.mask])
            lines = agreement(guess, truth, views.mask, len(batch.images))
        return crop_panels(views, self.grid, len(batch.images), lines)


@full_precision
def token_entropy(teacher: Tensor, student: Tensor) -> Tensor:
    """The mean of - sum_k P_t log P_s over tokens: both M K, probabilities and log-probabilities."""
    return -(teacher * student).sum(-1).mean()


def health(teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """``entropies`` of the teacher's answers on crops and, as ``patch_...``, on patches; both ... K, probabilities."""
    return entropies(teacher) | {f"patch_{name}": value for name, value in entropies(labels).items()}


def agreement(guess: Tensor, truth: Tensor, mask: Tensor, count: int) -> list[str]:
    """A line a picture: on how many hidden patches (B*hidden K both) the student names the teacher's prototype."""
    same = guess.argmax(-1) == truth.argmax(-1)  # B*hidden, those in first crops before those in second ones
    picture = torch.arange(len(mask), device=mask.device).remainder(count)[:, None].expand_as(mask)[mask]  # B*hidden
    right = torch.zeros(count, device=mask.device).index_add(0, picture, same.float()).int()  # B
    return [f"patches named as the teacher does: {number} of {len(same) // count}" for number in right.tolist()]


def crop_panels(views: MaskedCrops, grid: tuple[int, int], count: int, lines: Sequence[str]) -> list[Panel]:
    """Both large crops with their hidden patches covered, then the small crops; ``lines`` stand below the first."""
    first, second = covered(views.large, views.mask, grid).split(count)  # B C S S each
    small = [Panel(f"small crop {i}", crop) for i, crop in enumerate(views.small.split(count), 1) if len(crop)]
    return [Panel("large crop 1", first, lines), Panel("large crop 2", second), *small]


RECIPE = Recipe(
    task=IBOT(),
    optim=Optim(method="muon", lr=4e-3, weight_decay=0.04, final_decay=0.4, betas=(0.9, 0.999), warmup=0.1),
    epochs=100,
    batch=256,
    pool="class",
)
