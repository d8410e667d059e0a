"""SimMIM: mask three fifths of the image and reconstruct the pixels with one linear layer.

With x_p the pixels of patch p (each channel normalized to mean 0 and standard deviation 1 over the data) and M the
masked patches,

    loss = mean_{p in M} | W f(x with a learned token at M)_p - x_p |         over all pixels of the patch

Masked and visible patches pass through the backbone alike, so any backbone that supports masks can be trained. Since
the head is only one layer, the backbone itself must do the reconstruction.

Xie, Zhang, Cao, Lin, Bao, Yao, Dai and Hu, "SimMIM: a simple framework for masked image modeling", 2021
(https://arxiv.org/abs/2111.09886).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from headway.config import MUON, Recipe, check_range
from headway.errors import HeadwayError
from headway.nn.numerics import at_least_fp32
from headway.protocol import Backbone, Batch, DataInfo, Panel, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.geometry import random_resized_crop
from headway.transforms.masks import maskable_grid, num_masked_patches, overlay_mask, random_masks, upsample_mask
from headway.transforms.patches import MaskedViews, patchify, unpatchify


@dataclass(frozen=True)
class SimMIM:
    """Configuration of SimMIM."""

    mask_ratio: float = 0.6
    """Share of the image that is masked."""
    mask_unit: int = 0
    """Side of the squares that are masked, in patches. 0: a sixth of the image's side (32 of 192 pixels in the paper),
    or the nearest number that divides the grid."""
    scale: tuple[float, float] = (0.67, 1.0)
    """Share of the image's area that a crop covers."""

    def __post_init__(self) -> None:
        check_range(self, "mask_ratio", above=0, below=1)
        check_range(self, "mask_unit", at_least=0)
        check_range(self, "scale", above=0, at_most=1, increasing=True)

    def build(self, backbone: Backbone, data_info: DataInfo) -> "SimMIMTask":
        """Build the task: a mask token and one linear layer from a token to its patch."""
        return SimMIMTask(self, backbone, data_info)


class SimMIMTask(PretextTask):
    """Reconstruct the masked patches."""

    requires = frozenset({"mask"})

    def __init__(self, config: SimMIM, backbone: Backbone, data_info: DataInfo):
        super().__init__()
        self.config, self.patch_size, self.size = config, backbone.patch_size, data_info.input_size
        self.grid = maskable_grid(data_info.input_size, self.patch_size)
        divisors = [unit for unit in range(1, self.grid[0]) if self.grid[0] % unit == 0]
        self.mask_unit = config.mask_unit or min(divisors, key=lambda unit: abs(unit - self.grid[0] / 6))
        if self.mask_unit not in divisors:
            raise HeadwayError(
                "value-out-of-range",
                f"simmim mask_unit {self.mask_unit} must divide the {self.grid[0]} patches of a side: {divisors}",
            )
        self.mask_token = nn.Parameter(torch.randn(backbone.mask_value_dim) * 0.02)
        self.to_pixels = nn.Linear(backbone.embed_dim, self.patch_size**2 * data_info.channels)
        self.mean, self.std = backbone.input_spec.mean, backbone.input_spec.std

    def make_views(self, batch: Batch, rng: SampleRNG) -> MaskedViews:
        """Crop each image and mask equally many units of each, anywhere."""
        images = random_resized_crop(batch.images, rng, self.size, scale=self.config.scale)
        side = self.grid[0] // self.mask_unit
        ratio = num_masked_patches(side * side, self.config.mask_ratio) / (side * side)
        mask = upsample_mask(random_masks(rng, side * side, ratio), (side, side), self.mask_unit).flatten(1)  # B N
        return MaskedViews(images, mask)

    def forward(self, backbone: Backbone, views: MaskedViews, clock: TrainingClock) -> TaskOutput:
        """Mean absolute error on the masked patches. Every image has equally many of them."""
        predictions, targets = self._predictions_and_targets(backbone, views)  # B N p*p*C each
        loss = (predictions - targets)[views.mask].abs().mean()
        return TaskOutput(loss, {"mean_color_error": targets[views.mask].abs().mean()})

    def visualize(self, batch: Batch, views: MaskedViews, backbone: Backbone | None = None) -> list[Panel]:
        """The masked image, the reconstruction, and the image."""
        panels = [Panel("input", overlay_mask(views.images, views.mask, self.grid))]
        if backbone is not None:
            predictions, targets = self._predictions_and_targets(backbone, views)  # B N p*p*C each
            errors = (predictions - targets)[views.mask].abs().reshape(len(targets), -1).mean(1)  # B
            mean, std = self._mean_and_std(predictions)  # C 1 1 each
            restored = unpatchify(predictions, self.patch_size, self.grid[0]) * std + mean  # B C H W
            masked = upsample_mask(views.mask, self.grid, self.patch_size)[:, None]  # B 1 H W
            captions = [f"error {error:.2f} standard deviations" for error in errors.tolist()]
            filled = torch.where(masked, restored.clamp(0, 1).float(), views.images)  # B C H W
            panels.append(Panel("reconstruction", filled, captions))
        return [*panels, Panel("target", views.images)]

    def _predictions_and_targets(self, backbone: Backbone, views: MaskedViews) -> tuple[Tensor, Tensor]:
        """The network's prediction of every patch and the patch, normalized as the backbone's input: B N p*p*C each."""
        tokens = backbone(views.images, mask=views.mask, mask_value=self.mask_token).patches  # B N D
        predictions = at_least_fp32(self.to_pixels(tokens))
        mean, std = self._mean_and_std(predictions)  # C 1 1 each
        return predictions, patchify((views.images.to(predictions.dtype) - mean) / std, self.patch_size)

    def _mean_and_std(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel of the backbone's input, in the type of ``like``: C 1 1 each."""
        return like.new_tensor(self.mean).view(-1, 1, 1), like.new_tensor(self.std).view(-1, 1, 1)


RECIPE = Recipe(task=SimMIM(), optim=replace(MUON, betas=(0.9, 0.999)), epochs=400, batch_size=256)
