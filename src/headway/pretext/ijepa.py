"""I-JEPA: from one block of a picture, predict what your own slow average makes of four others.

With s_p the teacher's token of patch p in the whole picture, at mean 0 and variance 1, and B_1..B_M the targets,

    loss = mean_{i, p in B_i} || g(f(context), B_i)_p - s_p ||^2 / D

f sees the context's patches alone; g, a narrow transformer, is told where the target's patches lie. Targets are taken
out of the context, so that nothing can be copied. The teacher's weights are a moving average of f's. (Tokens are
brought to one mean and variance, lest shrinking be a way to win.)

Assran, Duval, Misra, Bojanowski, Vincent, Rabbat, LeCun and Ballas, "Self-supervised learning from images with a
joint-embedding predictive architecture", 2023 (https://arxiv.org/abs/2301.08243).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.config import Optim, Recipe, bound
from headway.draws import Draws
from headway.errors import HeadwayError
from headway.measure.health import spread
from headway.nn.numerics import wide
from headway.nn.teacher import Teacher, teacher_momentum
from headway.pretext.narrow import Narrow, at, refuse_broken_heads
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, Panel, PretextTask
from headway.views.blocks import context_and_targets
from headway.views.geometry import random_resized_crop
from headway.views.masks import covered, grid_for


class Parts(NamedTuple):
    """The deal: B whole pictures, the patches that the student sees (B K) and those of each target (B M T)."""

    images: Tensor
    context: Tensor
    targets: Tensor


@dataclass(frozen=True)
class IJEPA:
    """Choices of I-JEPA."""

    targets: int = 4
    """M."""
    target_scale: tuple[float, float] = (0.15, 0.2)
    """Area of a target as a share of the picture's."""
    target_shape: tuple[float, float] = (0.75, 1.5)
    """Height / width of a target."""
    context_scale: tuple[float, float] = (0.85, 1.0)
    """Area of the context before targets are taken out of it."""
    width: int = 0
    """Width of the predictor; 0: half the backbone's, rounded to whole attention heads of 32."""
    depth: int = 3
    """Blocks of the predictor (6 to 16 in the paper, half its encoder's or fewer)."""
    scale: tuple[float, float] = (0.3, 1.0)
    """Share of the picture's area that a crop keeps."""
    momentum: float = 0.996
    """Of the teacher at the start of a long run; rises to 1 (``nn.teacher``)."""
    memory: float = 1 / 4
    """Share of the run that the teacher remembers at the start, at most: nothing but its slowness forbids collapse."""

    def __post_init__(self) -> None:
        bound(self, "targets depth", at_least=1)
        bound(self, "width", at_least=0)
        refuse_broken_heads(self)
        bound(self, "target_scale context_scale scale", above=0, at_most=1, rising=True)
        bound(self, "target_shape", above=0, rising=True)
        bound(self, "momentum memory", at_least=0, at_most=1)
        if self.target_scale[1] >= self.context_scale[0]:
            raise HeadwayError(
                "ijepa targets must be smaller than the context that they are taken out of; got target_scale "
                f"{self.target_scale} and context_scale {self.context_scale}"
            )

    def build(self, backbone: Backbone, facts: Facts) -> "IJEPATask":
        """Make the task: a narrow transformer as predictor, and a copy of the backbone as the teacher."""
        return IJEPATask(self, backbone, facts)


class IJEPATask(PretextTask):
    """Predict parts from a part, in features and not in pixels."""

    needs: ClassVar[frozenset[str]] = frozenset({"keep"})

    def __init__(self, config: IJEPA, backbone: Backbone, facts: Facts):
        super().__init__()
        assert isinstance(backbone, nn.Module)
        self.config, self.size = config, facts.size
        self.grid = grid_for(facts.size, backbone.patch_size)
        self.predictor = Narrow(backbone.embed_dim, backbone.embed_dim, self.grid, config.width, config.depth)
        self.teacher = Teacher(backbone)

    def views(self, batch: Batch, draws: Draws) -> Parts:
        """Crop each picture and lay its blocks: sizes once a step, places per picture."""
        config = self.config
        images = random_resized_crop(batch.images, draws, self.size, scale=config.scale)
        shapes = (config.targets, config.target_scale, config.target_shape, config.context_scale)
        return Parts(images, *context_and_targets(draws, self.grid, *shapes))

    def forward(self, backbone: Backbone, views: Parts, clock: Clock) -> Outcome:
        """Mean squared error of predicted tokens, each target predicted on its own."""
        tokens = self._tokens(views.images)  # B N D
        loss = F.mse_loss(self._predicted(backbone, views), at(tokens, views.targets))
        return Outcome(loss, {"target_spread": spread(tokens.flatten(1))})  # over pictures, place by place

    def after_step(self, backbone: Backbone, carries: Sequence[Any], clock: Clock) -> None:
        """Move the teacher after the student."""
        assert isinstance(backbone, nn.Module)
        self.teacher.update(backbone, teacher_momentum(clock, self.config.momentum, self.config.memory))

    def panels(self, batch: Batch, views: Parts, backbone: Backbone | None = None) -> list[Panel]:
        """The picture, the context, and each target; with the network, how near its predictions are."""
        everything = torch.ones(len(views.images), self.grid[0] * self.grid[1], dtype=torch.bool)  # B N
        everything = everything.to(views.images.device)
        captions: list[list[str]] = [[]] * self.config.targets
        if backbone is not None:
            guess, truth = self._predicted(backbone, views), at(self._tokens(views.images), views.targets)  # B M T D
            alike = F.cosine_similarity(guess, truth, dim=-1).mean(2).T  # M B
            captions = [[f"prediction and target alike: {a:.2f}" for a in row] for row in alike.tolist()]
        shown = [Panel("the teacher sees", views.images)]
        parts = [views.context, *views.targets.unbind(1)]  # B K, then M times B T
        lines = [[f"{views.context.shape[1]} patches"] * len(views.images), *captions]
        titles = ["context: the student sees", *[f"target {i}" for i in range(1, len(parts))]]
        for title, patches, line in zip(titles, parts, lines, strict=True):
            hidden = everything.scatter(1, patches, False)  # B N
            shown.append(Panel(title, covered(views.images, hidden, self.grid), line))
        return shown

    def _predicted(self, backbone: Backbone, views: Parts) -> Tensor:
        """g(f(context), B_i) for each target: B M T D, float32 or wider."""
        seen = backbone(views.images, keep=views.context).patches  # B K D
        return self.predictor(seen, views.context, views.targets)  # B M T D

    def _tokens(self, images: Tensor) -> Tensor:
        """The teacher's tokens s: B N D, float32 or wider."""
        tokens = wide(self.teacher(images).patches)  # B N D
        return F.layer_norm(tokens, tokens.shape[-1:])


RECIPE = Recipe(
    task=IJEPA(), optim=Optim(method="muon", lr=4e-3, weight_decay=0.04, final_decay=0.4), epochs=300, batch=256
)
