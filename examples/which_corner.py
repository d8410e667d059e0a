"""Which corner? A custom task in one file: cut a corner out of the image and predict which of the four it is.

To know that legs are at the bottom, the network must recognize legs. Run it in the folder that holds this file:

    headway show which_corner:RECIPE --data photos --out sheet.png
    headway pretrain which_corner:RECIPE --data photos --out runs/corner --budget 2m

    loss = - log softmax(W f(corner(x, k)))[k],   k drawn from the four corners

This is an exercise without a paper. Relative position (headway/pretext/relative_position.py) is a harder task.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.config import Optim, Recipe, check_range
from headway.nn.numerics import at_least_fp32
from headway.protocol import Backbone, Batch, DataInfo, Panel, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.geometry import crop_resize

CORNERS = ("top left", "top right", "bottom left", "bottom right")


class CornerViews(NamedTuple):
    """B corners, and the class of each, 0..3. Every tensor must have B rows, or V*B rows, view-major."""

    images: Tensor
    corners: Tensor


@dataclass(frozen=True)
class WhichCorner:
    """Configuration of the task. Each field is an option of the command line, such as ``--recipe.task.share 0.5``."""

    share: float = 0.6
    """Side of the crop as a share of the image's side."""
    max_offset: float = 0.1
    """Largest distance from the edges, as a share of the image's side. Without it, edges would reveal the corner."""

    def __post_init__(self) -> None:
        check_range(self, "share", above=0, at_most=1)
        check_range(self, "max_offset", at_least=0, below=1)

    def build(self, backbone: Backbone, data_info: DataInfo) -> "WhichCornerTask":
        """Build the task: one linear layer on the pooled features. ``data_info`` describes the data."""
        return WhichCornerTask(self, backbone.embed_dim, data_info.input_size)


class WhichCornerTask(PretextTask):
    """Classify the corner."""

    def __init__(self, config: WhichCorner, embed_dim: int, size: int):
        super().__init__()
        self.config, self.size = config, size
        self.head = nn.Linear(embed_dim, len(CORNERS))

    def make_views(self, batch: Batch, rng: SampleRNG) -> CornerViews:
        """Cut a corner out of each image. All random numbers come from ``rng``, so that runs are reproducible.

        Corners are cut at whole pixels. A crop between pixels is interpolated, and the blur would reveal its position.
        """
        full = batch.images.shape[-1]  # images are square
        side = max(round(self.config.share * full), 1)
        room = min(round(self.config.max_offset * full), full - side)
        corners = rng.integers("corner", len(CORNERS))  # B
        low, right = corners >= 2, corners % 2 == 1  # B each
        off = rng.integers("offset", room + 1, 2)  # B 2
        top = torch.where(low, full - side - off[:, 0], off[:, 0])  # B
        left = torch.where(right, full - side - off[:, 1], off[:, 1])  # B
        boxes = torch.stack([top, left, *[torch.full_like(top, side)] * 2], dim=1)  # B 4
        return CornerViews(crop_resize(batch.images, boxes, self.size), corners)

    def forward(self, backbone: Backbone, views: CornerViews, clock: TrainingClock) -> TaskOutput:
        """Cross-entropy over the four corners, in float32 for any precision of the network."""
        logits = at_least_fp32(self.head(backbone(views.images).pooled))  # B 4
        accuracy = (logits.argmax(1) == views.corners).float().mean()
        return TaskOutput(F.cross_entropy(logits, views.corners), {"accuracy": accuracy})

    def visualize(self, batch: Batch, views: CornerViews, backbone: Backbone | None = None) -> list[Panel]:
        """What ``headway show`` draws: the corner and its class; with a run, the network's prediction."""
        captions = [CORNERS[corner] for corner in views.corners.tolist()]
        if backbone is not None:
            predictions = self.head(backbone(views.images).pooled).argmax(1).tolist()
            captions = [
                f"{CORNERS[p]}, {'right' if CORNERS[p] == t else 'wrong'}"
                for p, t in zip(predictions, captions, strict=True)
            ]
        return [Panel("input", views.images, captions)]


RECIPE = Recipe(task=WhichCorner(), optim=Optim(method="muon", lr=4e-3, weight_decay=0.05), epochs=100, batch_size=64)
