"""Relative position: predict on which side of one tile another tile of the same image lies.

To know that ears are above a snout, the network must recognize ears and snouts.

    loss = - log softmax(MLP([f(center), f(neighbor)]))[p],   p one of the eight neighbors of the center

Each tile passes through the backbone separately, so that only the head compares them.

Doersch, Gupta and Efros, "Unsupervised visual representation learning by context prediction", 2015
(https://arxiv.org/abs/1505.05192).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from headway.config import MUON, Recipe, check_range
from headway.errors import unknown_name_error
from headway.losses.classification import classification_output
from headway.nn.numerics import at_least_fp32
from headway.nn.projection_heads import projector
from headway.protocol import Backbone, Batch, DataInfo, Panel, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.tiles import (
    CENTER_CELL,
    GRID_SIZE,
    Tiles,
    assemble_tiles,
    drop_channels,
    project_colors,
    tile_size_for,
)

DIRECTIONS = ("above left", "above", "above right", "to the left", "to the right", "below left", "below", "below right")
"""The eight classes: where the neighbor lies as seen from the center, row by row."""


class RelativePositionViews(NamedTuple):
    """Tiles as (1+V)*B rows, view-major, the center first, and the direction of each neighbor: V*B, int64 in 0..7."""

    tiles: Tensor
    targets: Tensor


@dataclass(frozen=True)
class RelativePosition:
    """Configuration of the relative position task."""

    tiles: Tiles = field(default_factory=lambda: Tiles(gap=1 / 3, jitter=0.15))
    """How tiles are cut. The paper's gap is half a tile and its jitter 7 pixels of 48."""
    tile_ratio: float = 1 / GRID_SIZE
    """Side of a tile as the network sees it / side of the main view, rounded to whole patches."""
    color: Literal["keep", "drop", "project"] = "keep"
    """Measure against chromatic aberration. keep: none; drop: drop two channels of each tile; project: project green
    and magenta out."""
    all_neighbors: bool = True
    """Predict all eight neighbors of each center: nine tiles give eight predictions. The paper's pairs give one from
    two."""
    hidden_dim: int = 512
    """Dimension of the head's hidden layer."""

    def __post_init__(self) -> None:
        if self.color not in ("keep", "drop", "project"):
            raise unknown_name_error("relative_position color", self.color, ("keep", "drop", "project"))
        check_range(self, "tile_ratio", above=0)
        check_range(self, "hidden_dim", at_least=1)

    def build(self, backbone: Backbone, data_info: DataInfo) -> "RelativePositionTask":
        """Build the task: an MLP of two layers on the features of both tiles."""
        return RelativePositionTask(
            self, backbone.embed_dim, tile_size_for(data_info.input_size, backbone.patch_size, self.tile_ratio)
        )


class RelativePositionTask(PretextTask):
    """Classify the direction of the neighbor."""

    def __init__(self, config: RelativePosition, embed_dim: int, tile_size: int):
        super().__init__()
        self.config, self.tile_size = config, tile_size
        self.head = projector([2 * embed_dim, config.hidden_dim, len(DIRECTIONS)], norm=False)

    def make_views(self, batch: Batch, rng: SampleRNG) -> RelativePositionViews:
        """Cut the center and one neighbor, or all eight. The target is the neighbor's direction."""
        b, device = len(batch.images), batch.images.device
        if self.config.all_neighbors:
            targets = torch.arange(len(DIRECTIONS), device=device).expand(b, -1)  # B 8
        else:
            targets = rng.integers("direction", len(DIRECTIONS), 1)  # B 1
        cells = targets + (targets >= CENTER_CELL)  # B V: skip the center
        order = torch.cat([torch.full((b, 1), CENTER_CELL, device=device), cells], 1)  # B 1+V
        tiles = self.config.tiles(batch.images, rng, self.tile_size, order)  # (1+V)*B C S S
        if self.config.color == "drop":
            tiles = drop_channels(tiles, rng)
        elif self.config.color == "project":
            tiles = project_colors(tiles)
        return RelativePositionViews(tiles, targets.T.flatten())

    def forward(self, backbone: Backbone, views: RelativePositionViews, clock: TrainingClock) -> TaskOutput:
        """Cross-entropy over the eight directions."""
        logits = self._logits(backbone, views)  # V*B 8
        return classification_output(logits, views.targets)

    def _logits(self, backbone: Backbone, views: RelativePositionViews) -> Tensor:
        b = len(views.tiles) - len(views.targets)
        features = backbone(views.tiles).pooled.unflatten(0, (-1, b))  # 1+V B D
        center, neighbors = features[:1].expand_as(features[1:]), features[1:]  # V B D each
        return at_least_fp32(self.head(torch.cat([center, neighbors], 2).flatten(0, 1)))  # V*B 8

    def visualize(self, batch: Batch, views: RelativePositionViews, backbone: Backbone | None = None) -> list[Panel]:
        """The center and a neighbor, and both tiles arranged by the network's prediction and by the target."""
        b = len(batch.images)
        row = torch.arange(b, device=views.tiles.device)
        row = row + b * (row % (len(views.targets) // b))  # B: a different neighbor for each image
        center, neighbor, targets = views.tiles[:b].float(), views.tiles[b:][row].float(), views.targets[row]

        def arranged(title: str, directions: Tensor, captions: Sequence[str]) -> Panel:
            neighbor_cells = directions + (directions >= CENTER_CELL)  # B
            cells = torch.stack([torch.full_like(directions, CENTER_CELL), neighbor_cells], 1)  # B 2
            return Panel(title, assemble_tiles(torch.cat([center, neighbor]), cells), captions)

        inputs = [Panel("center", center), Panel("neighbor", neighbor)]
        target_panel = arranged("target", targets, [DIRECTIONS[target] for target in targets])
        if backbone is None:
            return [*inputs, target_panel]
        predictions = self._logits(backbone, views).argmax(1)[row]  # B
        marks = [
            f"{DIRECTIONS[p]}, {'right' if p == t else 'wrong'}" for p, t in zip(predictions, targets, strict=True)
        ]
        return [*inputs, arranged("prediction", predictions, marks), target_panel]


RECIPE = Recipe(task=RelativePosition(), optim=MUON, epochs=200, batch_size=64, storage_scale=1.5)
