"""Relative position: two tiles of one picture; on which side of the first did the second lie?

To say that ears are above a snout, the network must know what an ear and a snout are.

    loss = - log softmax(MLP([f(centre), f(neighbour)]))[p],   p one of the eight neighbours of the centre

Each tile goes through the backbone on its own, so that only the head can compare them.

Doersch, Gupta and Efros, "Unsupervised visual representation learning by context prediction", 2015
(https://arxiv.org/abs/1505.05192).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.config import Optim, Recipe, bound
from headway.draws import Draws
from headway.errors import unknown
from headway.nn.heads import projector
from headway.nn.numerics import wide
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, Panel, PretextTask
from headway.views.tiles import CENTRE, GRID, Tiles, board, drop_channels, project_colours, tile_side

SIDES = ("above left", "above", "above right", "to the left", "to the right", "below left", "below", "below right")
"""The eight answers: where the neighbour is, seen from the centre; row by row."""


class Pairs(NamedTuple):
    """The deal: tiles as (1+V)*B rows, view-major, the centre first, and the side of each neighbour, V*B in 0..7."""

    tiles: Tensor
    sides: Tensor


@dataclass(frozen=True)
class RelativePosition:
    """Choices of the relative position task."""

    tiles: Tiles = field(default_factory=lambda: Tiles(gap=1 / 3, jitter=0.15))
    """How tiles are cut; the paper's gap is half a tile and its jitter 7 pixels of 48."""
    share: float = 1 / GRID
    """Side of a tile as the network sees it / side of the main view, rounded to whole patches."""
    colour: Literal["keep", "drop", "project"] = "keep"
    """Against chromatic aberration: keep all; drop two channels of each tile; or project green and magenta out."""
    all_neighbours: bool = True
    """Deal all eight neighbours of each centre, nine tiles for eight answers, instead of two for one (the paper's)."""
    hidden: int = 512
    """Width of the head's hidden layer."""

    def __post_init__(self) -> None:
        if self.colour not in ("keep", "drop", "project"):
            raise unknown("relative_position colour", self.colour, ("keep", "drop", "project"))
        bound(self, "share", above=0)
        bound(self, "hidden", at_least=1)

    def build(self, backbone: Backbone, facts: Facts) -> "RelativePositionTask":
        """Make the task: an MLP of two layers on the features of both tiles."""
        return RelativePositionTask(self, backbone.embed_dim, tile_side(facts.size, backbone.patch_size, self.share))


class RelativePositionTask(PretextTask):
    """Name the side."""

    def __init__(self, config: RelativePosition, width: int, side: int):
        super().__init__()
        self.config, self.side = config, side
        self.head = projector([2 * width, config.hidden, len(SIDES)], norm=False)

    def views(self, batch: Batch, draws: Draws) -> Pairs:
        """Cut the centre and one neighbour, or all eight; the label is the neighbour's side."""
        b, device = len(batch.images), batch.images.device
        if self.config.all_neighbours:
            sides = torch.arange(len(SIDES), device=device).expand(b, -1)  # B 8
        else:
            sides = draws.integers(len(SIDES), 1)  # B 1
        cells = sides + (sides >= CENTRE)  # B V: the centre is nobody's neighbour
        order = torch.cat([torch.full((b, 1), CENTRE, device=device), cells], 1)  # B 1+V
        tiles = self.config.tiles(batch.images, draws, self.side, order)  # (1+V)*B C S S
        if self.config.colour == "drop":
            tiles = drop_channels(tiles, draws)
        elif self.config.colour == "project":
            tiles = project_colours(tiles)
        return Pairs(tiles, sides.T.flatten())

    def forward(self, backbone: Backbone, views: Pairs, clock: Clock) -> Outcome:
        """Cross-entropy over the eight sides."""
        logits = self._logits(backbone, views)  # V*B 8
        accuracy = (logits.argmax(1) == views.sides).float().mean()
        return Outcome(F.cross_entropy(logits, views.sides), {"accuracy": accuracy})

    def _logits(self, backbone: Backbone, views: Pairs) -> Tensor:
        b = len(views.tiles) - len(views.sides)
        features = backbone(views.tiles).pooled.unflatten(0, (-1, b))  # 1+V B D
        centre, others = features[:1].expand_as(features[1:]), features[1:]  # V B D each
        return wide(self.head(torch.cat([centre, others], 2).flatten(0, 1)))  # V*B 8

    def panels(self, batch: Batch, views: Pairs, backbone: Backbone | None = None) -> list[Panel]:
        """The centre and a neighbour, the model's answer and the truth, on a board."""
        b = len(batch.images)
        row = torch.arange(b, device=views.tiles.device)
        row = row + b * (row % (len(views.sides) // b))  # B: of all eight neighbours another one for each picture
        centre, neighbour, side = views.tiles[:b].float(), views.tiles[b:][row].float(), views.sides[row]

        def laid(title: str, sides: Tensor, captions: Sequence[str]) -> Panel:
            cells = torch.stack([torch.full_like(sides, CENTRE), sides + (sides >= CENTRE)], 1)  # B 2
            return Panel(title, board(torch.cat([centre, neighbour]), cells), captions)

        dealt = [Panel("centre", centre), Panel("neighbour", neighbour)]
        truth = laid("the truth", side, [SIDES[s] for s in side])
        if backbone is None:
            return [*dealt, truth]
        answer = self._logits(backbone, views).argmax(1)[row]  # B
        marks = [f"{SIDES[a]}, {'right' if a == s else 'wrong'}" for a, s in zip(answer, side, strict=True)]
        return [*dealt, laid("the answer", answer, marks), truth]


RECIPE = Recipe(
    task=RelativePosition(), optim=Optim(method="muon", lr=4e-3, weight_decay=0.05), epochs=200, batch=64, detail=1.5
)
