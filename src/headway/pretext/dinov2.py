"""DINOv2: crops and hidden patches as in iBOT, answers balanced over the batch, and pictures kept apart.

    loss = DINO(crops) + iBOT(hidden patches) + w KoLeo(class tokens)

with the cross-entropies of ``dino.py`` and ``ibot.py``, except that patches have a head of their own, and that the
teacher's answers are no softmax about a moving centre, but Sinkhorn and Knopp's assignments: over the batch, every
prototype is given an equal share. KoLeo = - mean_i log min_{j != i} || z_i - z_j ||, with z the class tokens of the
student's first crops at length 1, keeps pictures apart.

Oquab, Darcet, Moutakanni, Vo et al., "DINOv2: learning robust visual features without supervision", 2023
(https://arxiv.org/abs/2304.07193).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from headway.config import Optim, Recipe, bound
from headway.draws import Draws
from headway.measure.health import entropies, spread
from headway.nn.heads import PrototypeHead
from headway.nn.koleo import koleo
from headway.nn.numerics import wide
from headway.nn.sinkhorn import sinkhorn
from headway.nn.teacher import Teacher, teacher_momentum
from headway.pretext.dino import cross_view_entropy, prototypes_for
from headway.pretext.ibot import agreement, crop_panels, health, token_entropy
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, Panel, PretextTask
from headway.schedule import ramp
from headway.views.crops import MaskedCrops, masked_crops, small_side
from headway.views.masks import grid_for


@dataclass(frozen=True)
class DINOv2:
    """Choices of DINOv2."""

    prototypes: int = 0
    """K of both heads; 0: the power of two nearest to pictures / 16, from 64 to 65,536 (131,072 in the paper, for 142
    million pictures)."""
    hidden: int = 512
    """Hidden width of the heads (2048 in the paper, for networks many times wider than ours)."""
    bottleneck: int = 128
    """Width of the vector that is compared with prototypes (256 in the paper)."""
    small_crops: int = 4
    """Small crops a picture (8 in the paper)."""
    large_scale: tuple[float, float] = (0.32, 1.0)
    """Share of the area in a large crop."""
    small_scale: tuple[float, float] = (0.08, 0.32)
    """Share of the area in a small crop."""
    ratio: tuple[float, float] = (0.1, 0.5)
    """Share of the patches hidden in one of the two large crops: drawn once a step, the same for all pictures."""
    student_temperature: float = 0.1
    """t_s."""
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    """t_t at the start and after warm-up."""
    temperature_warmup: float = 0.3
    """Share of the run over which t_t moves from its first to its second value."""
    iterations: int = 3
    """Of Sinkhorn-Knopp; 0 is a plain softmax, which collapses."""
    koleo: float = 0.1
    """w."""
    momentum: float = 0.992
    """Of the teacher at the start of a long run; rises to 1 (``nn.teacher``)."""
    memory: float = 1 / 40
    """Share of the run that the teacher remembers at the start, at most."""
    freeze: float = 0.01
    """Share of the run during which the prototypes stand still."""

    def __post_init__(self) -> None:
        bound(self, "prototypes small_crops iterations koleo", at_least=0)
        bound(self, "hidden bottleneck", at_least=1)
        bound(self, "large_scale small_scale", above=0, at_most=1, rising=True)
        bound(self, "ratio", above=0, below=1, rising=True)
        bound(self, "student_temperature teacher_temperature", above=0)
        bound(self, "temperature_warmup momentum memory freeze", at_least=0, at_most=1)

    def build(self, backbone: Backbone, facts: Facts) -> "DINOv2Task":
        """Make the task: a mask token, two heads, and copies of backbone and heads as the teacher."""
        return DINOv2Task(self, backbone, facts)


class DINOv2Task(PretextTask):
    """Agree with your past self about crops and unseen patches, every prototype and every direction being used."""

    needs: ClassVar[frozenset[str]] = frozenset({"mask"})
    couples_batch: ClassVar[bool] = True
    minimum_batch: ClassVar[int] = 2

    def __init__(self, config: DINOv2, backbone: Backbone, facts: Facts):
        super().__init__()
        assert isinstance(backbone, nn.Module)
        self.config, self.grid = config, grid_for(facts.size, backbone.patch_size)
        self.sides = facts.size, small_side(facts.size, backbone.patch_size)
        widths = (
            backbone.embed_dim,
            config.prototypes or prototypes_for(facts.count),
            config.hidden,
            config.bottleneck,
        )
        self.mask_token = nn.Parameter(torch.randn(backbone.fill_dim) * 0.02)
        self.head, self.patch_head = PrototypeHead(*widths), PrototypeHead(*widths)
        self.teacher = Teacher(backbone)
        self.teacher_head, self.teacher_patch_head = Teacher(self.head), Teacher(self.patch_head)

    def views(self, batch: Batch, draws: Draws) -> MaskedCrops:
        """Two large crops, one of them with holes, and several small ones of each picture."""
        config = self.config
        scales = (config.large_scale, config.small_scale)
        return masked_crops(batch, draws, self.sides, self.grid, config.small_crops, scales, config.ratio)

    def forward(self, backbone: Backbone, views: MaskedCrops, clock: Clock) -> Outcome:
        """The three losses; assignments and neighbours are those of all processes."""
        config, count = self.config, len(views.large) // 2
        temperature = ramp(clock.progress, config.temperature_warmup, *config.teacher_temperature)
        seen = self.teacher(views.large)
        answers = wide(self.teacher_head(seen.pooled)).unflatten(0, (2, count))  # 2 B K
        patch_answers = wide(self.teacher_patch_head(seen.patches[views.mask]))  # B*hidden K
        crop_labels = [sinkhorn(crop, temperature, config.iterations) for crop in answers]  # 2 times B K, each balanced
        labels = sinkhorn(patch_answers, temperature, config.iterations)  # B*hidden K

        frozen = clock.progress < config.freeze
        large = backbone(views.large, mask=views.mask, fill=self.mask_token)
        pooled = [large.pooled, *([backbone(views.small).pooled] if len(views.small) else [])]
        logits = wide(self.head(torch.cat(pooled), freeze=frozen)) / config.student_temperature  # V*B K
        patch_logits = wide(self.patch_head(large.patches[views.mask], freeze=frozen)) / config.student_temperature
        crops = cross_view_entropy(torch.stack(crop_labels), logits.log_softmax(-1).unflatten(0, (-1, count)))
        patches = token_entropy(labels, patch_logits.log_softmax(-1))
        apart = koleo(large.pooled[:count], views.number)
        parts = {"crops": crops.detach(), "patches": patches.detach(), "koleo": apart.detach()}
        unbalanced = (answers / temperature).softmax(-1), (patch_answers / temperature).softmax(-1)
        balanced = {
            "label_entropy": entropies(torch.stack(crop_labels))["answer_entropy"],
            "patch_label_entropy": entropies(labels)["answer_entropy"],
        }
        metrics = {**parts, **balanced, **health(*unbalanced), "spread": spread(large.pooled[:count])}
        return Outcome(crops + patches + config.koleo * apart, metrics)

    def after_step(self, backbone: Backbone, carries: Sequence[Any], clock: Clock) -> None:
        """Move the teacher after the student."""
        assert isinstance(backbone, nn.Module)
        momentum = teacher_momentum(clock, self.config.momentum, self.config.memory)
        self.teacher.update(backbone, momentum)
        self.teacher_head.update(self.head, momentum)
        self.teacher_patch_head.update(self.patch_head, momentum)

    def panels(self, batch: Batch, views: MaskedCrops, backbone: Backbone | None = None) -> list[Panel]:
        """The large crops as the student sees them, then the small ones; with the network, how it fares on patches."""
        lines: list[str] = []
        if backbone is not None:
            truth = sinkhorn(wide(self.teacher_patch_head(self.teacher(views.large).patches[views.mask])))
            guess = self.patch_head(backbone(views.large, mask=views.mask, fill=self.mask_token).patches[views.mask])
            lines = agreement(guess, truth, views.mask, len(batch.images))
        return crop_panels(views, self.grid, len(batch.images), lines)


RECIPE = Recipe(
    task=DINOv2(),
    optim=Optim(method="muon", lr=4e-3, weight_decay=0.04, final_decay=0.2, betas=(0.9, 0.999), warmup=0.1),
    epochs=100,
    batch=64,
    pool="class",
)
