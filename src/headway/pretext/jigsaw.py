"""Jigsaw: cut the picture into nine tiles and shuffle them; which shuffle was it?

To put a face together again, the network must know what goes where in a face.

    loss = - log softmax(MLP([P f(t_1), ..., P f(t_9)]))[k],   t_i the tile that permutation k puts in place i

Each tile goes through the backbone and the projection P on its own; only the MLP behind them can compare. The K
permutations lie far apart (``headway.views.permutations``), so that no two tiles alone give the answer away.

Noroozi and Favaro, "Unsupervised learning of visual representations by solving jigsaw puzzles", 2016
(https://arxiv.org/abs/1603.09246). The form for vision transformers is in ``jigsaw_tokens``.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.config import Optim, Recipe, bound
from headway.draws import Draws
from headway.errors import unknown
from headway.nn.heads import projector
from headway.nn.numerics import wide
from headway.pretext.jigsaw_tokens import JigsawTokensTask
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, Panel, PretextTask
from headway.views.permutations import far_permutations
from headway.views.tiles import CELLS, GRID, Tiles, board, normalise, tile_side


class Puzzle(NamedTuple):
    """The deal: tiles as 9*B rows, cell by cell, and the numbers of the permutations that shuffle them, M*B."""

    tiles: Tensor
    numbers: Tensor


@dataclass(frozen=True)
class Jigsaw:
    """Choices of the jigsaw task."""

    form: Literal["tiles", "tokens"] = "tiles"
    """tiles: nine, encoded one by one. tokens: a ViT sees all patches, shuffled and without positions."""
    permutations: int = 24
    """K, how many shuffles there are to tell apart (tiles; the paper goes up to 1000, for longer runs)."""
    tiles: Tiles = field(default_factory=lambda: Tiles(gap=0.15, jitter=0.5))
    """How tiles are cut; the paper takes 64 of 75 pixels anywhere in the cell. (tokens: scale and flip alone.)"""
    puzzles: int = 8
    """M, how many shuffles of the same nine tiles are asked about at once: a tile is encoded once for all (tiles)."""
    share: float = 1 / GRID
    """Side of a tile as the network sees it / side of the main view, rounded to whole patches (tiles)."""
    normalise: bool = True
    """Give every tile the same mean and deviation, or neighbours would be known by their light (tiles)."""
    projection: int = 64
    """Width of P, for each tile (tiles)."""
    hidden: int = 512
    """Width of the head's hidden layer."""
    ratio: float = 1.0
    """Share of the shuffled patches that the network may see; fewer make a harder and cheaper game (tokens)."""

    def __post_init__(self) -> None:
        if self.form not in ("tiles", "tokens"):
            raise unknown("jigsaw form", self.form, ("tiles", "tokens"))
        bound(self, "share", above=0)
        bound(self, "ratio", above=0, at_most=1)
        bound(self, "permutations puzzles projection hidden", at_least=1)

    def build(self, backbone: Backbone, facts: Facts) -> PretextTask:
        """Make the task in the form that was chosen."""
        width, patch = backbone.embed_dim, backbone.patch_size
        if self.form == "tokens":
            return JigsawTokensTask(
                width, patch, facts.size, self.hidden, self.ratio, self.tiles.scale, self.tiles.flip
            )
        return JigsawTask(self, width, tile_side(facts.size, patch, self.share))


class JigsawTask(PretextTask):
    """Name the permutation."""

    def __init__(self, config: Jigsaw, width: int, side: int):
        super().__init__()
        self.config, self.side = config, side
        self.permutations: Tensor
        self.register_buffer("permutations", far_permutations(CELLS, config.permutations).clone(), persistent=False)
        self.project = nn.Linear(width, config.projection)
        self.head = projector([CELLS * config.projection, config.hidden, config.permutations], norm=False)

    def views(self, batch: Batch, draws: Draws) -> Puzzle:
        """Cut nine tiles and draw shuffles of them; the label is the permutation's number."""
        tiles = self.config.tiles(batch.images, draws, self.side)  # 9*B C S S
        numbers = draws.integers(len(self.permutations), self.config.puzzles).T.flatten()  # M*B
        return Puzzle(normalise(tiles) if self.config.normalise else tiles, numbers)

    def forward(self, backbone: Backbone, views: Puzzle, clock: Clock) -> Outcome:
        """Cross-entropy over the K permutations."""
        logits = self._logits(backbone, views)  # M*B K
        accuracy = (logits.argmax(1) == views.numbers).float().mean()
        return Outcome(F.cross_entropy(logits, views.numbers), {"accuracy": accuracy})

    def _logits(self, backbone: Backbone, views: Puzzle) -> Tensor:
        projected = F.relu(self.project(backbone(views.tiles).pooled))  # 9*B P
        cells = projected.unflatten(0, (CELLS, -1))  # 9 B P
        # Tiles do not know of one another yet: to shuffle what the backbone made of them is to shuffle them.
        order = self.permutations[views.numbers]  # M*B 9
        picture = torch.arange(len(order), device=order.device) % cells.shape[1]  # M*B
        return wide(self.head(cells[order, picture[:, None]].flatten(1)))  # M*B K

    def panels(self, batch: Batch, views: Puzzle, backbone: Backbone | None = None) -> list[Panel]:
        """The shuffled puzzle and its permutation, the puzzle as the model would restore it, and the truth."""
        b = len(batch.images)
        numbers = views.numbers[:b]  # B: of several puzzles the first
        order = self.permutations[numbers]  # B 9: the tile of cell order[i] lies in place i
        true = torch.arange(CELLS, device=order.device).expand(b, -1)  # B 9
        names = [f"permutation {number}" for number in numbers]
        dealt, truth = Panel("shuffled", board(views.tiles, order.argsort(1)), names), board(views.tiles, true)
        if backbone is None:
            return [dealt, Panel("the truth", truth)]
        answer = self._logits(backbone, views)[:b].argmax(1)  # B
        restored = self.permutations[answer].gather(1, order.argsort(1))  # B 9: where the answer puts each tile back
        marks = [f"{k}, {'right' if k == number else 'wrong'}" for k, number in zip(answer, numbers, strict=True)]
        return [dealt, Panel("restored", board(views.tiles, restored), marks), Panel("the truth", truth)]


RECIPE = Recipe(task=Jigsaw(), optim=Optim(method="muon", lr=8e-3, weight_decay=0.05), epochs=200, batch=64)
