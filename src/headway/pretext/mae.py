"""MAE: hide three quarters of the patches, look at the rest, paint what is missing.

With x_p the pixels of patch p, each patch brought to mean 0 and variance 1, and M the hidden patches,

    loss = mean_{p in M} || decoder(encoder(visible))_p - x_p ||^2 / (numbers in x_p)

The encoder sees visible patches alone, so that hiding most of them makes it several times cheaper.

He, Chen, Xie, Li, Dollar and Girshick, "Masked autoencoders are scalable vision learners", 2021
(https://arxiv.org/abs/2111.06377).
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from headway.backbones.positions import sine_positions
from headway.config import Optim, Recipe
from headway.draws import Draws
from headway.errors import HeadwayError
from headway.nn.block import Block
from headway.nn.numerics import wide
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, Panel, PretextTask
from headway.views.geometry import random_resized_crop
from headway.views.masks import hidden_count, keep_indices, upscale

STEADY = 1e-6
"""Added to a patch's variance, which may be 0."""
HIDDEN = 0.86
"""The light grey of hidden patches where people look at them."""


class Masked(NamedTuple):
    """The deal: B whole pictures, the patches that the encoder may see (B K) and those it may not (B N, bool)."""

    images: Tensor
    keep: Tensor
    mask: Tensor


@dataclass(frozen=True)
class MAE:
    """Choices of the masked autoencoder."""

    ratio: float = 0.75
    """Share of patches hidden."""
    width: int = 0
    """Width of the decoder; 0: half the backbone's, rounded to whole attention heads of 32."""
    depth: int = 2
    """Blocks of the decoder (8 in the paper, beside 24 of the encoder; fewer cost little where it is fine-tuned)."""
    scale: tuple[float, float] = (0.35, 1.0)
    """Share of the picture's area that a crop keeps."""

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1:
            raise HeadwayError(f"mae ratio is a share of the patches in (0, 1), got {self.ratio}")

    def build(self, backbone: Backbone, facts: Facts) -> "MAETask":
        """Make the task: a mask token and a light transformer that paints."""
        return MAETask(self, backbone.embed_dim, backbone.patch_size, facts)


class MAETask(PretextTask):
    """Paint the hidden patches."""

    needs: ClassVar[frozenset[str]] = frozenset({"keep"})

    def __init__(self, config: MAE, embed_dim: int, patch: int, facts: Facts):
        super().__init__()
        self.config, self.patch, self.size = config, patch, facts.size
        self.grid = facts.size // patch
        width = config.width or max(embed_dim // 2 // 32, 1) * 32
        self.join = nn.Linear(embed_dim, width)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, max(width // 32, 1)) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.paint = nn.Linear(width, patch * patch * facts.channels)
        self.positions: Tensor
        self.register_buffer(
            "positions", sine_positions(self.grid, self.grid, width).flatten(0, 1), persistent=False
        )  # N D

    def views(self, batch: Batch, draws: Draws) -> Masked:
        """Crop each picture and choose, in each, the same number of patches to keep."""
        images = random_resized_crop(batch.images, draws, self.size, scale=self.config.scale)
        patches = self.grid**2
        keep, mask = keep_indices(draws, patches, patches - hidden_count(patches, self.config.ratio))
        return Masked(images, keep, mask)

    def forward(self, backbone: Backbone, views: Masked, clock: Clock) -> Outcome:
        """Mean squared error on the hidden patches, each normalised by its own mean and deviation."""
        painted = self._painted(backbone, views)  # B N p*p*C
        target = normalised(patchify(views.images.to(painted.dtype), self.patch))  # B N p*p*C
        error = (painted - target).square().mean(-1)  # B N
        # Every picture hides equally many patches, so that the mean over patches is one over pictures too.
        loss = error[views.mask].mean()
        return Outcome(loss, {})

    def panels(self, batch: Batch, views: Masked, backbone: Backbone | None = None) -> list[Panel]:
        """What the encoder sees, what is painted into the gaps, and the picture.

        The network paints patches of mean 0 and variance 1, so each is shown at the mean and variance of the true one.
        """
        b, patches = views.mask.shape
        hidden = upscale(views.mask, (self.grid, self.grid), self.patch)[:, None]  # B 1 H W
        seen = Panel(f"dealt: {views.keep.shape[1]} of {patches} patches", torch.where(hidden, HIDDEN, views.images))
        shown = [seen]
        if backbone is not None:
            true = patchify(views.images, self.patch)  # B N p*p*C
            painted = self._painted(backbone, views).to(true.dtype)  # B N p*p*C
            raw = painted * (true.var(-1, keepdim=True) + STEADY).sqrt() + true.mean(-1, keepdim=True)
            picture = torch.where(hidden, unpatchify(raw, self.patch, self.grid), views.images).clamp(0, 1)
            error = (painted - normalised(true)).square().mean(-1)[views.mask].reshape(b, -1).mean(1)  # B
            title = "painted, each patch at its true mean and contrast"
            shown.append(Panel(title, picture, [f"squared error {value:.2f}" for value in error.tolist()]))
        return [*shown, Panel("the truth", views.images)]

    def _painted(self, backbone: Backbone, views: Masked) -> Tensor:
        """Every patch as the decoder paints it, at mean 0 and variance 1: B N p*p*C."""
        seen = self.join(backbone(views.images, keep=views.keep).patches)  # B K D
        places = views.keep[..., None].expand(-1, -1, seen.shape[-1])  # B K D
        tokens = self.mask_token.to(seen.dtype).expand(*views.mask.shape, -1).scatter(1, places, seen)  # B N D
        tokens = tokens + self.positions.to(seen.dtype)
        for block in self.blocks:
            tokens = block(tokens)
        return wide(self.paint(self.norm(tokens)))  # B N p*p*C


def patchify(images: Tensor, patch: int) -> Tensor:
    """The pixels of each patch: B C H W -> B N p*p*C, patches row by row."""
    b, c, h, w = images.shape
    tiles = images.reshape(b, c, h // patch, patch, w // patch, patch)  # B C rows p columns p
    return tiles.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, patch * patch * c)  # B N p*p*C


def unpatchify(pixels: Tensor, patch: int, rows: int) -> Tensor:
    """The picture that ``patchify`` cut, of as many rows as columns of patches: B N p*p*C -> B C H W."""
    tiles = pixels.unflatten(1, (rows, rows)).unflatten(3, (patch, patch, -1))  # B rows columns p p C
    return tiles.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)  # B C H W


def normalised(pixels: Tensor) -> Tensor:
    """Each patch at mean 0 and variance 1, which makes local contrast count: B N pixels -> the same."""
    mean, variance = pixels.mean(-1, keepdim=True), pixels.var(-1, keepdim=True)
    return (pixels - mean) / (variance + STEADY).sqrt()


RECIPE = Recipe(task=MAE(), optim=Optim(lr=1.5e-3, weight_decay=0.05), epochs=400, batch=256)
