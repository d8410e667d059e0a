"""Which corner? A game of one's own in one file: cut a corner out of the picture and ask which of the four it was.

Whoever says that these legs stood at the bottom knows legs. In the folder that holds this file,

    headway show which_corner:RECIPE --data photos --out sheet.png
    headway pretrain which_corner:RECIPE --data photos --out runs/corner --budget 2m

    loss = - log softmax(W f(corner(x, k)))[k],   k drawn from the four corners

An exercise, with no paper behind it: "Relative position" (headway/pretext/relative_position.py) asks a harder question.
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
from headway.views.geometry import crop_resize

CORNERS = ("top left", "top right", "bottom left", "bottom right")


class Dealt(NamedTuple):
    """The deal: B corners, and which each was, 0..3. Every tensor has B rows, or V*B, view-major."""

    images: Tensor
    corners: Tensor


@dataclass(frozen=True)
class WhichCorner:
    """Choices of the game: each is an option of the command line, ``--recipe.task.share 0.5``."""

    share: float = 0.6
    """Side of the corner as a share of the picture's."""
    stray: float = 0.1
    """How far it may lie from the edges, as a share of the picture's side, so that edges don't give it away."""

    def __post_init__(self) -> None:
        bound(self, "share", above=0, at_most=1)
        bound(self, "stray", at_least=0, below=1)

    def build(self, backbone: Backbone, facts: Facts) -> "WhichCornerTask":
        """Make the game: one linear layer on the pooled features. ``facts`` knows the data: count, size, samples."""
        return WhichCornerTask(self, backbone.embed_dim, facts.size)


class WhichCornerTask(PretextTask):
    """Name the corner."""

    def __init__(self, config: WhichCorner, width: int, size: int):
        super().__init__()
        self.config, self.size = config, size
        self.head = nn.Linear(width, len(CORNERS))

    def views(self, batch: Batch, draws: Draws) -> Dealt:
        """Cut a corner out of each picture; all chance comes from ``draws``, so that any run can be repeated.

        Corners are cut at whole pixels: a crop between pixels is blurred, and its blur would tell where it was cut.
        """
        picture = batch.images.shape[-1]  # pictures are square
        side = max(round(self.config.share * picture), 1)
        room = min(round(self.config.stray * picture), picture - side)
        corners = draws.integers(len(CORNERS))  # B
        low, right = corners >= 2, corners % 2 == 1  # B each
        off = draws.integers(room + 1, 2)  # B 2
        top = torch.where(low, picture - side - off[:, 0], off[:, 0])  # B
        left = torch.where(right, picture - side - off[:, 1], off[:, 1])  # B
        boxes = torch.stack([top, left, *[torch.full_like(top, side)] * 2], dim=1)  # B 4
        return Dealt(crop_resize(batch.images, boxes, self.size), corners)

    def forward(self, backbone: Backbone, views: Dealt, clock: Clock) -> Outcome:
        """Cross-entropy over the four corners, in float32 whatever the network computes in."""
        logits = wide(self.head(backbone(views.images).pooled))  # B 4
        accuracy = (logits.argmax(1) == views.corners).float().mean()
        return Outcome(F.cross_entropy(logits, views.corners), {"accuracy": accuracy})

    def panels(self, batch: Batch, views: Dealt, backbone: Backbone | None = None) -> list[Panel]:
        """What ``headway show`` prints: the corner, which it was, and with a run what the network says."""
        captions = [CORNERS[corner] for corner in views.corners.tolist()]
        if backbone is not None:
            answers = self.head(backbone(views.images).pooled).argmax(1).tolist()
            captions = [f"{CORNERS[a]}? it is {truth}" for a, truth in zip(answers, captions, strict=True)]
        return [Panel("dealt", views.images, captions)]


RECIPE = Recipe(task=WhichCorner(), optim=Optim(method="muon", lr=4e-3, weight_decay=0.05), epochs=100, batch=64)
