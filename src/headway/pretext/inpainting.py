"""Inpainting: hide a part of the picture; what belongs there?

To fill the hole, the network must tell from what it sees what is likely to be there. With M the hidden pixels, x^ the
painted picture, w_i = 10 in a band along the hole's border and 1 inside, and D a critic that tells real pictures from
filled ones (weight 0 unless asked for),

    loss = mean over pictures of  sum_{i in M} w_i ||x^_i - x_i||^2 / sum_{i in M} w_i
           + adversary max_D [log D(x) + log(1 - D(filled))]

D and the painter learn in one backward pass: D's own loss is added, and its gradient turns round before the painter.

Pathak, Krahenbuhl, Donahue, Darrell and Efros, "Context encoders: feature learning by inpainting", 2016
(https://arxiv.org/abs/1604.07379).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.config import Optim, Recipe, bound
from headway.draws import Draws
from headway.errors import HeadwayError, unknown
from headway.nn.cells import Cells
from headway.nn.critic import Critic
from headway.nn.numerics import wide
from headway.nn.reversal import reverse_gradient
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, Panel, PretextTask
from headway.views.geometry import random_resized_crop
from headway.views.masks import block_masks, central_masks, random_masks, region_masks, upscale

CELL = 4
"""Pixels a side that the decoder's last layer paints at once."""


class Holed(NamedTuple):
    """The deal: B whole pictures, and which cells of the grid are hidden in each (B N, bool)."""

    images: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Inpainting:
    """Choices of inpainting."""

    mask: Literal["region", "blocks", "central", "scattered"] = "region"
    """Shape of the hole: one random region, random blocks, the middle, or single patches anywhere."""
    ratio: float = 0.25
    """Share of the picture that is hidden."""
    overlap: float = 10.0
    """Weight of the band along the hole's border, where the paint must fit what is seen; 1: as elsewhere."""
    band: float = 7 / 128
    """Width of that band as a share of the picture's side (7 of 128 pixels in the paper)."""
    adversary: float = 0.0
    """Weight of the critic's gradient in the painter; 0: there is no critic."""
    width: int = 64
    """Numbers a cell of 4 x 4 pixels has in the decoder."""
    scale: tuple[float, float] = (0.35, 1.0)
    """Share of the picture's area that a crop keeps."""

    def __post_init__(self) -> None:
        if self.mask not in MASKS:
            raise unknown("mask", self.mask, MASKS)
        bound(self, "ratio", above=0, below=1)
        bound(self, "overlap", above=0)
        bound(self, "band", at_least=0, below=1)
        bound(self, "adversary", at_least=0)
        bound(self, "width", at_least=1)
        bound(self, "scale", above=0, at_most=1, rising=True)

    def build(self, backbone: Backbone, facts: Facts) -> "InpaintingTask":
        """Make the task: a mask token where the backbone has tokens, a light decoder, perhaps a critic."""
        return InpaintingTask(self, backbone, facts)


class InpaintingTask(PretextTask):
    """Paint what is hidden."""

    def __init__(self, config: Inpainting, backbone: Backbone, facts: Facts):
        super().__init__()
        self.config, self.size, patch = config, facts.size, backbone.patch_size
        tokens = "mask" in backbone.can and backbone.fill_dim == backbone.embed_dim
        # Where a network has no tokens to hide, pixels are painted over; its stride would make holes too coarse.
        self.hole = patch if tokens else min(patch, max(facts.size // 8, 1))
        side = -(-facts.size // self.hole)
        self.grid = (side, side)
        if not 0 < round(config.ratio * side**2) < side**2:
            raise HeadwayError(
                f"inpainting must hide some of {side} x {side} patches and show some, which a ratio of {config.ratio} "
                "does not; take another ratio, smaller patches or larger pictures"
            )
        if config.adversary and facts.size < 16:
            raise HeadwayError(f"the critic of inpainting needs views of 16 pixels or more, got {facts.size}")
        self.mask_token = nn.Parameter(torch.randn(backbone.fill_dim) * 0.02) if tokens else None
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(backbone.inputs.mean).view(-1, 1, 1), persistent=False)  # C 1 1
        self.register_buffer("std", torch.tensor(backbone.inputs.std).view(-1, 1, 1), persistent=False)  # C 1 1
        self.cells = Cells(backbone.embed_dim, patch, CELL, config.width)
        self.paint = nn.Conv2d(config.width, facts.channels * CELL**2, 3, padding=1)
        self.critic = Critic(facts.channels) if config.adversary else None

    def views(self, batch: Batch, draws: Draws) -> Holed:
        """Crop each picture and hide, in each, equally many cells."""
        images = random_resized_crop(batch.images, draws, self.size, scale=self.config.scale)
        return Holed(images, MASKS[self.config.mask](draws, self.grid, self.config.ratio))

    def forward(self, backbone: Backbone, views: Holed, clock: Clock) -> Outcome:
        """Weighted squared error in the hole, in units of the data's variance, and what the critic says."""
        hidden = self.hidden(views.mask)  # B 1 H W
        painted = wide(self.painted(backbone, views))  # B C H W
        truth = (views.images.to(painted.dtype) - self.mean) / self.std  # B C H W
        error = (painted - truth).square().mean(1, keepdim=True)  # B 1 H W
        loss = within(error, border_weights(hidden, round(self.config.band * self.size), self.config.overlap)).mean()
        flat = within(truth, ~hidden)[..., None, None]  # B C 1 1: the mean colour of what is seen
        metrics = {
            "error": within(error.detach(), hidden).mean(),
            "mean_colour_error": within((flat - truth).square(), hidden).mean(),
        }
        if self.critic is not None:
            filled = torch.where(hidden, reverse_gradient(painted, self.config.adversary), truth)  # B C H W
            real, unreal = wide(self.critic(torch.cat([truth, filled]))).chunk(2)  # B each
            loss = loss + F.softplus(-real).mean() + F.softplus(unreal).mean()  # - log D(x) - log(1 - D(filled))
            metrics["critic_accuracy"] = torch.cat([real > 0, unreal < 0]).float().mean()
        return Outcome(loss, metrics)

    def hidden(self, mask: Tensor) -> Tensor:
        """B 1 H W, bool: the pixels of the hidden cells (B N)."""
        return upscale(mask, self.grid, self.hole)[:, None, : self.size, : self.size]

    def painted(self, backbone: Backbone, views: Holed) -> Tensor:
        """B C H W, normalised: what the network makes of the picture without its hole."""
        if self.mask_token is None:
            images = torch.where(self.hidden(views.mask), self.mean.to(views.images.dtype), views.images)  # B C H W
            features = backbone(images)
        else:
            features = backbone(views.images, mask=views.mask, fill=self.mask_token)
        cells = self.cells(features.patches, features.grid).permute(0, 3, 1, 2)  # B M rows*s columns*s
        picture = F.pixel_shuffle(self.paint(cells), CELL)  # B C rows*s*4 columns*s*4
        if picture.shape[2:] == views.images.shape[2:]:
            return picture
        return F.interpolate(picture, size=views.images.shape[2:], mode="bilinear")  # B C H W: no whole strides

    def panels(self, batch: Batch, views: Holed, backbone: Backbone | None = None) -> list[Panel]:
        """The hole, the network's filling, and the truth."""
        hidden, images = self.hidden(views.mask), views.images.float()
        sheet = [Panel("dealt", images.masked_fill(hidden, 0.5)), Panel("the truth", images)]
        if backbone is not None:
            painted = (self.painted(backbone, views) * self.std + self.mean).clamp(0, 1)
            sheet.insert(1, Panel("the network's filling", torch.where(hidden, painted.float(), images)))
        return sheet


def within(values: Tensor, weights: Tensor) -> Tensor:
    """B C: the weighted mean over each picture's pixels; values B C H W, weights B 1 H W, numbers or bool."""
    weights = weights.to(values.dtype)
    return (values * weights).sum((2, 3)) / weights.sum((2, 3)).clamp_min(1e-9)


def border_weights(hidden: Tensor, band: int, overlap: float) -> Tensor:
    """B 1 H W: 0 where seen, ``overlap`` in the hole within ``band`` pixels of what is seen, 1 deeper inside.

    The picture's own edge is no border of the hole: nothing is seen beyond it.
    """
    seen = (~hidden).float()
    reach = F.max_pool2d(seen, 2 * band + 1, stride=1, padding=band)  # B 1 H W: 1 where something seen is near
    return hidden * (1 + (overlap - 1) * reach)


def scattered_masks(draws: Draws, grid: tuple[int, int], ratio: float) -> Tensor:
    """B N, bool: single cells anywhere."""
    return random_masks(draws, grid[0] * grid[1], ratio)


MASKS: dict[str, Callable[[Draws, tuple[int, int], float], Tensor]] = {
    "region": region_masks, "blocks": block_masks, "central": central_masks, "scattered": scattered_masks,
}  # fmt: skip
"""Each gives, for draws, a grid and a ratio, equally many hidden cells a picture."""

RECIPE = Recipe(task=Inpainting(), optim=Optim(method="muon", lr=16e-3, weight_decay=0.05), epochs=100, batch=64)
