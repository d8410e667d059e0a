"""MAE: reconstruct the masked three quarters of an image's patches from the visible quarter.

With x_p the pixels of patch p, each patch normalized to mean 0 and variance 1, and M the masked patches,

    loss = mean_{p in M} || decoder(encoder(visible))_p - x_p ||^2 / (numbers in x_p)

The encoder processes only visible patches, so that a high mask ratio makes it several times cheaper.

He, Chen, Xie, Li, Dollar and Girshick, "Masked autoencoders are scalable vision learners", 2021
(https://arxiv.org/abs/2111.06377).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from headway.config import MUON, Recipe, check_range
from headway.pretext.predictor import PredictorTransformer, check_embed_dim, gather_tokens
from headway.protocol import Backbone, Batch, DataInfo, Panel, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.geometry import random_resized_crop
from headway.transforms.masks import maskable_grid, num_masked_patches, random_keep_indices
from headway.transforms.patches import patchify, unpatchify

VARIANCE_EPS = 1e-6
"""Added to a patch's variance, which may be 0."""
MASK_GRAY = 0.86
"""Gray value of masked patches in panels."""


class MAEViews(NamedTuple):
    """B whole images (B C H W), the visible patches (B K) and the masked patches (B M); both int64."""

    images: Tensor
    keep_indices: Tensor
    masked_indices: Tensor


@dataclass(frozen=True)
class MAE:
    """Configuration of the masked autoencoder."""

    mask_ratio: float = 0.75
    """Share of the patches that are masked."""
    decoder_dim: int = 0
    """Embedding dimension of the decoder. 0: half the backbone's, rounded to whole attention heads of 32."""
    decoder_depth: int = 2
    """Blocks of the decoder (8 in the paper, beside 24 of the encoder; fewer cost little after fine-tuning)."""
    scale: tuple[float, float] = (0.35, 1.0)
    """Share of the image's area that a crop covers."""

    def __post_init__(self) -> None:
        check_range(self, "mask_ratio", above=0, below=1)
        check_range(self, "decoder_depth", at_least=1)
        check_range(self, "decoder_dim", at_least=0)
        check_embed_dim(self, "decoder_dim")
        check_range(self, "scale", above=0, at_most=1, increasing=True)

    def build(self, backbone: Backbone, data_info: DataInfo) -> "MAETask":
        """Build the task: a mask token and a small transformer as decoder."""
        return MAETask(self, backbone.embed_dim, backbone.patch_size, data_info)


class MAETask(PretextTask):
    """Reconstruct the masked patches."""

    requires = frozenset({"keep_indices"})

    def __init__(self, config: MAE, embed_dim: int, patch_size: int, data_info: DataInfo):
        super().__init__()
        self.config, self.patch_size, self.size = config, patch_size, data_info.input_size
        self.grid = data_info.input_size // patch_size, data_info.input_size // patch_size
        self.decoder = PredictorTransformer(
            embed_dim, patch_size * patch_size * data_info.channels, self.grid, config.decoder_dim, config.decoder_depth
        )

    def make_views(self, batch: Batch, rng: SampleRNG) -> MAEViews:
        """Crop each image and choose equally many visible patches in each."""
        images = random_resized_crop(batch.images, rng, self.size, scale=self.config.scale)
        patches = math.prod(maskable_grid(self.size, self.patch_size))  # raises for too few patches
        keep, mask = random_keep_indices(rng, patches, patches - num_masked_patches(patches, self.config.mask_ratio))
        order = mask.byte().argsort(dim=1, stable=True)  # B N: the visible patches, then the masked ones
        return MAEViews(images, keep, order[:, keep.shape[1] :])

    def forward(self, backbone: Backbone, views: MAEViews, clock: TrainingClock) -> TaskOutput:
        """Mean squared error on the masked patches, each normalized by its own mean and standard deviation."""
        predictions = self._reconstruct(backbone, views)  # B M p*p*C
        targets = normalize_patches(self._masked_pixels(views, predictions.dtype))  # B M p*p*C
        # Every image has equally many masked patches, so the mean over patches is a mean over images too.
        loss = (predictions - targets).square().mean()
        return TaskOutput(loss, {"mean_color_error": targets.square().mean()})

    def visualize(self, batch: Batch, views: MAEViews, backbone: Backbone | None = None) -> list[Panel]:
        """The visible patches, the reconstruction, and the image.

        The network predicts normalized patches, so each is shown at the mean and variance of the original patch.
        """
        title = f"input: {views.keep_indices.shape[1]} of {math.prod(self.grid)} patches"
        panels = [Panel(title, self._fill_masked(views, MASK_GRAY))]
        if backbone is not None:
            predictions = self._reconstruct(backbone, views)  # B M p*p*C
            pixels = self._masked_pixels(views, predictions.dtype)  # B M p*p*C
            restored = predictions * (pixels.var(-1, keepdim=True) + VARIANCE_EPS).sqrt() + pixels.mean(
                -1, keepdim=True
            )
            errors = (predictions - normalize_patches(pixels)).square().flatten(1).mean(1).tolist()  # B
            title = "reconstruction, with the mean and contrast of each patch"
            captions = [f"squared error {error:.2f}" for error in errors]
            panels.append(Panel(title, self._fill_masked(views, restored), captions))
        return [*panels, Panel("target", views.images)]

    def _reconstruct(self, backbone: Backbone, views: MAEViews) -> Tensor:
        """The decoder's predictions of the masked patches, normalized: B M p*p*C."""
        tokens = backbone(views.images, keep_indices=views.keep_indices).patches  # B K D
        return self.decoder(tokens, views.keep_indices, views.masked_indices[:, None])[:, 0]

    def _masked_pixels(self, views: MAEViews, dtype: torch.dtype) -> Tensor:
        """The pixels of the masked patches: B M p*p*C."""
        return gather_tokens(patchify(views.images.to(dtype), self.patch_size), views.masked_indices[:, None])[:, 0]

    def _fill_masked(self, views: MAEViews, pixels: Tensor | float) -> Tensor:
        """The image with masked patches replaced by pixels, B M p*p*C, or by one gray value: B C H W."""
        patches = patchify(views.images, self.patch_size)  # B N p*p*C
        index = views.masked_indices[..., None].expand(-1, -1, patches.shape[-1])  # B M p*p*C
        source = torch.as_tensor(pixels).to(patches).expand(index.shape)  # B M p*p*C
        return unpatchify(patches.scatter(1, index, source), self.patch_size, self.grid[0]).clamp(0, 1)


def normalize_patches(pixels: Tensor) -> Tensor:
    """Normalize each patch to mean 0 and variance 1, which emphasizes local contrast: B N p*p*C -> B N p*p*C."""
    mean, variance = pixels.mean(-1, keepdim=True), pixels.var(-1, keepdim=True)
    return (pixels - mean) / (variance + VARIANCE_EPS).sqrt()


RECIPE = Recipe(task=MAE(), optim=MUON, epochs=400, batch_size=256)
