"""data2vec: from a picture with holes, say what your own slow average thinks of the whole one.

With z^l_p the teacher's tokens after block l, brought to mean 0 and variance 1 each, and M the hidden patches,

    y_p  = mean of z^l_p over the last L blocks
    loss = mean_{p in M} smooth_b(W f(x with a learned token at M)_p - y_p)
    smooth_b(e) = e^2 / 2b where |e| <= b, else |e| - b/2

Targets say what a patch means in its whole picture, which pixels do not. The teacher's weights are a moving average of
the student's. (The paper takes tokens before a block's last addition; backbones here show them after it.)

Baevski, Hsu, Xu, Babu, Gu and Auli, "data2vec: a general framework for self-supervised learning in speech, vision and
language", 2022 (https://arxiv.org/abs/2202.03555).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.config import Optim, Recipe, bound
from headway.draws import Draws
from headway.measure.health import spread
from headway.nn.numerics import wide
from headway.nn.teacher import Teacher, teacher_momentum
from headway.pretext.simmim import Hidden
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, Panel, PretextTask
from headway.views.colour import jitter
from headway.views.geometry import random_resized_crop
from headway.views.masks import block_masks, covered, grid_for, hidden_count


@dataclass(frozen=True)
class Data2Vec:
    """Choices of data2vec for pictures."""

    ratio: float = 0.6
    """Share of the patches hidden, in blocks."""
    layers: int = 0
    """L, the teacher's last blocks that are averaged; 0: half of all (6 of 12 in the paper)."""
    beta: float = 2.0
    """b: errors up to here count by their square (the paper's; its targets are scaled as ours)."""
    jitter: float = 0.4
    """Reach of brightness, contrast and saturation; teacher and student see the same colours."""
    scale: tuple[float, float] = (0.35, 1.0)
    """Share of the picture's area that a crop keeps."""
    momentum: float = 0.9998
    """Of the teacher at the start of a long run; rises to 1 (``nn.teacher``)."""
    memory: float = 1 / 4
    """Share of the run that the teacher remembers at the start, at most: nothing but its slowness forbids collapse."""

    def __post_init__(self) -> None:
        bound(self, "ratio", above=0, below=1)
        bound(self, "layers jitter", at_least=0)
        bound(self, "beta", above=0)
        bound(self, "scale", above=0, at_most=1, rising=True)
        bound(self, "momentum memory", at_least=0, at_most=1)

    def build(self, backbone: Backbone, facts: Facts) -> "Data2VecTask":
        """Make the task: a mask token, one linear layer, and a copy of the backbone as the teacher."""
        return Data2VecTask(self, backbone, facts)


class Data2VecTask(PretextTask):
    """Guess what the whole picture makes of a hidden patch."""

    needs: ClassVar[frozenset[str]] = frozenset({"mask", "layers"})

    def __init__(self, config: Data2Vec, backbone: Backbone, facts: Facts):
        super().__init__()
        assert isinstance(backbone, nn.Module)
        self.config, self.size = config, facts.size
        self.grid = grid_for(facts.size, backbone.patch_size)
        layers = min(config.layers or max(backbone.depth // 2, 1), backbone.depth)
        self.layers = tuple(range(backbone.depth - layers, backbone.depth))
        self.mask_token = nn.Parameter(torch.randn(backbone.fill_dim) * 0.02)
        self.guess = nn.Linear(backbone.embed_dim, backbone.embed_dim)
        self.teacher = Teacher(backbone)

    def views(self, batch: Batch, draws: Draws) -> Hidden:
        """Crop and colour each picture, and hide equally many patches of each in blocks."""
        images = random_resized_crop(batch.images, draws, self.size, scale=self.config.scale)
        reach = self.config.jitter
        images = jitter(images, draws, reach, reach, reach, 0.0) if reach else images
        patches = self.grid[0] * self.grid[1]
        return Hidden(images, block_masks(draws, self.grid, hidden_count(patches, self.config.ratio) / patches))

    def forward(self, backbone: Backbone, views: Hidden, clock: Clock) -> Outcome:
        """Smooth absolute error on the hidden patches, each picture hiding equally many."""
        targets = self._targets(views.images)  # B N D
        guess = self.guess(backbone(views.images, mask=views.mask, fill=self.mask_token).patches[views.mask])
        loss = F.smooth_l1_loss(wide(guess), targets[views.mask], beta=self.config.beta)
        return Outcome(loss, {"target_spread": spread(targets.flatten(1))})  # over pictures, place by place

    def after_step(self, backbone: Backbone, carries: Sequence[Any], clock: Clock) -> None:
        """Move the teacher after the student."""
        assert isinstance(backbone, nn.Module)
        self.teacher.update(backbone, teacher_momentum(clock, self.config.momentum, self.config.memory))

    def panels(self, batch: Batch, views: Hidden, backbone: Backbone | None = None) -> list[Panel]:
        """What the student sees and what the teacher sees; with the network, how near the guesses are."""
        lines: list[str] = []
        if backbone is not None:
            guess = wide(self.guess(backbone(views.images, mask=views.mask, fill=self.mask_token).patches))  # B N D
            alike = F.cosine_similarity(guess, self._targets(views.images), dim=-1)[views.mask]  # B*hidden
            lines = [f"guess and target alike: {a:.2f}" for a in alike.reshape(len(guess), -1).mean(1).tolist()]
        student = covered(views.images, views.mask, self.grid)
        return [Panel("the student sees", student, lines), Panel("the teacher sees", views.images)]

    def _targets(self, images: Tensor) -> Tensor:
        """The target y of every patch: B N D, float32 or wider."""
        outputs = self.teacher(images, layers=self.layers).layers  # L times B P+N D
        patches = self.grid[0] * self.grid[1]
        tokens = [wide(output[:, -patches:]) for output in outputs]  # L times B N D
        return torch.stack([F.layer_norm(z, z.shape[-1:]) for z in tokens]).mean(0)


RECIPE = Recipe(
    task=Data2Vec(), optim=Optim(method="muon", lr=4e-3, weight_decay=0.05, betas=(0.9, 0.999)), epochs=400, batch=256
)
