"""Inpainting: mask a part of the image and predict its pixels.

To fill the hole, the network must infer its likely content from the rest. With M the masked pixels, x^ the
reconstruction, w_i = 10 in a band along the hole's border and 1 inside, and D a discriminator between real and filled
images (used only where ``adversarial_weight`` is above 0),

    loss = mean over images of  sum_{i in M} w_i ||x^_i - x_i||^2 / sum_{i in M} w_i
           + adversarial_weight max_D [log D(x) + log(1 - D(filled))]

D and the decoder learn in one backward pass: D's own loss is added, and its gradient is reversed before the decoder.

Pathak, Krahenbuhl, Donahue, Darrell and Efros, "Context encoders: feature learning by inpainting", 2016
(https://arxiv.org/abs/1604.07379).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.config import MUON, Recipe, check_range
from headway.errors import HeadwayError, unknown_name_error
from headway.nn.numerics import at_least_fp32
from headway.nn.pixel_heads import Discriminator, SubPixelHead, reverse_gradient
from headway.protocol import Backbone, Batch, DataInfo, Panel, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.geometry import random_resized_crop
from headway.transforms.masks import block_masks, central_masks, random_masks, region_masks, upsample_mask
from headway.transforms.patches import MaskedViews

CELL_SIZE = 4
"""Side in pixels of the cells that the decoder's last layer predicts."""


@dataclass(frozen=True)
class Inpainting:
    """Configuration of inpainting."""

    mask_type: Literal["region", "blocks", "central", "scattered"] = "region"
    """Shape of the hole: one random region, random blocks, the center, or single patches anywhere."""
    mask_ratio: float = 0.25
    """Share of the image that is masked."""
    border_weight: float = 10.0
    """Weight of the band along the hole's border, where pixels must continue the visible ones. 1: as elsewhere."""
    border_width: float = 7 / 128
    """Width of that band as a share of the image's side (7 of 128 pixels in the paper)."""
    adversarial_weight: float = 0.0
    """Weight of the discriminator's gradient in the decoder. 0: no discriminator."""
    decoder_dim: int = 64
    """Channels of the decoder, for each cell of 4 x 4 pixels."""
    scale: tuple[float, float] = (0.35, 1.0)
    """Share of the image's area that a crop covers."""

    def __post_init__(self) -> None:
        if self.mask_type not in MASK_SAMPLERS:
            raise unknown_name_error("mask_type", self.mask_type, MASK_SAMPLERS)
        check_range(self, "mask_ratio", above=0, below=1)
        check_range(self, "border_weight", above=0)
        check_range(self, "border_width", at_least=0, below=1)
        check_range(self, "adversarial_weight", at_least=0)
        check_range(self, "decoder_dim", at_least=1)
        check_range(self, "scale", above=0, at_most=1, increasing=True)

    def build(self, backbone: Backbone, data_info: DataInfo) -> "InpaintingTask":
        """Build the task: a mask token if the backbone has tokens, a small decoder, perhaps a discriminator."""
        return InpaintingTask(self, backbone, data_info)


class InpaintingTask(PretextTask):
    """Reconstruct the masked pixels."""

    def __init__(self, config: Inpainting, backbone: Backbone, data_info: DataInfo):
        super().__init__()
        self.config, self.size, patch = config, data_info.input_size, backbone.patch_size
        tokens = "mask" in backbone.supports and backbone.mask_value_dim == backbone.embed_dim
        # Without tokens, pixels are overwritten. A network's stride can be too coarse a grid for that.
        self.mask_patch_size = patch if tokens else min(patch, max(data_info.input_size // 8, 1))
        side = -(-data_info.input_size // self.mask_patch_size)
        self.grid = (side, side)
        if not 0 < round(config.mask_ratio * side**2) < side**2:
            raise HeadwayError(
                "value-out-of-range",
                f"inpainting must mask some of {side} x {side} patches and show some, but a mask_ratio of "
                f"{config.mask_ratio} does not; choose another ratio, smaller patches or larger images",
            )
        if config.adversarial_weight and data_info.input_size < 16:
            raise HeadwayError(
                "image-size",
                f"the discriminator of inpainting needs views of 16 pixels or more, got {data_info.input_size}",
            )
        self.mask_token = nn.Parameter(torch.randn(backbone.mask_value_dim) * 0.02) if tokens else None
        self.mean = nn.Buffer(torch.tensor(backbone.input_spec.mean).view(-1, 1, 1), persistent=False)  # C 1 1
        self.std = nn.Buffer(torch.tensor(backbone.input_spec.std).view(-1, 1, 1), persistent=False)  # C 1 1
        self.sub_pixel_head = SubPixelHead(backbone.embed_dim, patch, CELL_SIZE, config.decoder_dim)
        self.to_pixels = nn.Conv2d(config.decoder_dim, data_info.channels * CELL_SIZE**2, 3, padding=1)
        self.discriminator = Discriminator(data_info.channels) if config.adversarial_weight else None

    def make_views(self, batch: Batch, rng: SampleRNG) -> MaskedViews:
        """Crop each image and mask equally many cells of each."""
        images = random_resized_crop(batch.images, rng, self.size, scale=self.config.scale)
        return MaskedViews(images, MASK_SAMPLERS[self.config.mask_type](rng, self.grid, self.config.mask_ratio))

    def forward(self, backbone: Backbone, views: MaskedViews, clock: TrainingClock) -> TaskOutput:
        """Weighted squared error in the hole, in units of the data's variance, and the discriminator's losses."""
        config, masked = self.config, self.masked_pixels(views.mask)  # B 1 H W
        predictions = at_least_fp32(self.reconstruct(backbone, views))  # B C H W
        targets = (views.images.to(predictions.dtype) - self.mean) / self.std  # B C H W
        error = (predictions - targets).square().mean(1, keepdim=True)  # B 1 H W
        weights = border_weights(masked, round(config.border_width * self.size), config.border_weight)  # B 1 H W
        loss = masked_mean(error, weights).mean()
        mean_color = masked_mean(targets, ~masked)[..., None, None]  # B C 1 1: of the visible pixels
        metrics = {
            "error": masked_mean(error.detach(), masked).mean(),
            "mean_color_error": masked_mean((mean_color - targets).square(), masked).mean(),
        }
        if self.discriminator is not None:
            filled = torch.where(masked, reverse_gradient(predictions, config.adversarial_weight), targets)  # B C H W
            real, fake = at_least_fp32(self.discriminator(torch.cat([targets, filled]))).chunk(2)  # B each
            loss = loss + F.softplus(-real).mean() + F.softplus(fake).mean()  # - log D(x) - log(1 - D(filled))
            metrics["discriminator_accuracy"] = torch.cat([real > 0, fake < 0]).float().mean()
        return TaskOutput(loss, metrics)

    def masked_pixels(self, mask: Tensor) -> Tensor:
        """The pixels of the masked cells: B N -> B 1 H W, bool."""
        return upsample_mask(mask, self.grid, self.mask_patch_size)[:, None, : self.size, : self.size]

    def reconstruct(self, backbone: Backbone, views: MaskedViews) -> Tensor:
        """The network's prediction of the whole image from the visible pixels, normalized: B C H W."""
        if self.mask_token is None:
            mean = self.mean.to(views.images.dtype)
            features = backbone(torch.where(self.masked_pixels(views.mask), mean, views.images))
        else:
            features = backbone(views.images, mask=views.mask, mask_value=self.mask_token)
        cells = self.sub_pixel_head(features.patches, features.grid).permute(0, 3, 1, 2)  # B M rows*s columns*s
        pixels = F.pixel_shuffle(self.to_pixels(cells), CELL_SIZE)  # B C rows*s*4 columns*s*4
        if pixels.shape[2:] == views.images.shape[2:]:
            return pixels
        return F.interpolate(pixels, size=views.images.shape[2:], mode="bilinear")  # B C H W

    def visualize(self, batch: Batch, views: MaskedViews, backbone: Backbone | None = None) -> list[Panel]:
        """The masked image, the reconstruction, and the image."""
        masked, images = self.masked_pixels(views.mask), views.images.float()
        panels = [Panel("input", images.masked_fill(masked, 0.5)), Panel("target", images)]
        if backbone is not None:
            predictions = (self.reconstruct(backbone, views) * self.std + self.mean).clamp(0, 1)  # B C H W
            panels.insert(1, Panel("reconstruction", torch.where(masked, predictions.float(), images)))
        return panels


def masked_mean(values: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean over each image's pixels: values B C H W and weights B 1 H W (float or bool) -> B C."""
    weights = weights.to(values.dtype)
    return (values * weights).sum((2, 3)) / weights.sum((2, 3)).clamp_min(1e-9)


def border_weights(masked: Tensor, width: int, weight: float) -> Tensor:
    """Weights of pixels: 0 where visible, ``weight`` within ``width`` pixels of the hole's border, 1 deeper inside.

    The image's own edge is no border of the hole, since nothing is visible beyond it. Bool B 1 H W -> B 1 H W.
    """
    visible = (~masked).float()
    band = F.max_pool2d(visible, 2 * width + 1, stride=1, padding=width)  # B 1 H W: 1 where a visible pixel is near
    return masked * (1 + (weight - 1) * band)


def scattered_masks(rng: SampleRNG, grid: tuple[int, int], mask_ratio: float) -> Tensor:
    """Single masked cells anywhere: B N, bool."""
    return random_masks(rng, grid[0] * grid[1], mask_ratio)


MASK_SAMPLERS: dict[str, Callable[[SampleRNG, tuple[int, int], float], Tensor]] = {
    "region": region_masks, "blocks": block_masks, "central": central_masks, "scattered": scattered_masks,
}  # fmt: skip
"""Each maps an RNG, a grid and a mask ratio to masks with equally many masked cells per image (B N, bool)."""

RECIPE = Recipe(task=Inpainting(), optim=replace(MUON, lr=16e-3), epochs=100, batch_size=64)
