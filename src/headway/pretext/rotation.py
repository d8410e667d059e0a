"""Rotation: turn the picture by a quarter or more; which way is up?

To name the turn, the network must find the object and know how it usually stands.

    loss = - log softmax(W f(turn(x, r)))[r],   r drawn from {0, 90, 180, 270 degrees}

Gidaris, Singh and Komodakis, "Unsupervised representation learning by predicting image rotations", 2018
(https://arxiv.org/abs/1803.07728).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.config import Optim, Recipe, bound
from headway.draws import Draws
from headway.nn.numerics import wide
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, Panel, PretextTask
from headway.views.geometry import quarter_turns, random_resized_crop

TURNS = 4


class Turned(NamedTuple):
    """The deal: V*B pictures, view-major, and the turn that each was given."""

    images: Tensor
    turns: Tensor


@dataclass(frozen=True)
class Rotation:
    """Choices of the rotation task."""

    all_turns: bool = False
    """Deal each picture in all four turns (the paper's batches: four times the work a picture) instead of one."""
    scale: tuple[float, float] = (0.35, 1.0)
    """Share of the picture's area that a crop keeps. Crops are square: their shape tells nothing of the turn."""

    def __post_init__(self) -> None:
        bound(self, "scale", above=0, at_most=1, rising=True)

    def build(self, backbone: Backbone, facts: Facts) -> "RotationTask":
        """Make the task: one linear layer on the pooled features."""
        return RotationTask(self, backbone.embed_dim, facts.size)


class RotationTask(PretextTask):
    """Name the turn."""

    def __init__(self, config: Rotation, width: int, size: int):
        super().__init__()
        self.config, self.size = config, size
        self.head = nn.Linear(width, TURNS)

    def views(self, batch: Batch, draws: Draws) -> Turned:
        """Cut a square crop of each picture and turn it; the label is the turn."""
        images = random_resized_crop(batch.images, draws, self.size, scale=self.config.scale, ratio=(1.0, 1.0))
        if self.config.all_turns:
            turns = torch.arange(TURNS, device=images.device).repeat_interleave(len(images))  # 4*B
            images = images.repeat(TURNS, 1, 1, 1)  # 4*B C H W
        else:
            turns = draws.integers(TURNS)  # B
        return Turned(quarter_turns(images, turns), turns)

    def forward(self, backbone: Backbone, views: Turned, clock: Clock) -> Outcome:
        """Cross-entropy over the four turns."""
        logits = wide(self.head(backbone(views.images).pooled))  # V*B 4
        accuracy = (logits.argmax(1) == views.turns).float().mean()
        return Outcome(F.cross_entropy(logits, views.turns), {"accuracy": accuracy})

    def panels(self, batch: Batch, views: Turned, backbone: Backbone | None = None) -> list[Panel]:
        """The picture, the picture as it is dealt, and the dealt one turned back by the network's answer."""
        b = len(batch.images)
        shown = [Panel("the crop, upright", quarter_turns(views.images, -views.turns % TURNS)[:b])]
        for images, turns in zip(views.images.split(b), views.turns.split(b), strict=True):  # B C H W and B
            shown.append(Panel("dealt", images, [f"label: {90 * turn} degrees" for turn in turns.tolist()]))
            if backbone is not None:
                chances, answers = wide(self.head(backbone(images).pooled)).softmax(1).max(1)  # B each
                captions = [
                    f"{90 * answer} degrees, {100 * chance:.0f} %, {'right' if answer == turn else 'wrong'}"
                    for chance, answer, turn in zip(chances.tolist(), answers.tolist(), turns.tolist(), strict=True)
                ]
                shown.append(Panel("turned back by the answer", quarter_turns(images, -answers % TURNS), captions))
        return shown


RECIPE = Recipe(task=Rotation(), optim=Optim(method="muon", lr=4e-3, weight_decay=0.05), epochs=100, batch=64)
