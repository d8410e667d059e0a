"""MAE: hide three quarters of the patches, look at the rest, paint what is missing.

With x_p the pixels of patch p, each patch brought to mean 0 and variance 1, and M the hidden patches,

    loss = mean_{p in M} || decoder(encoder(visible))_p - x_p ||^2 / (numbers in x_p)

The encoder sees visible patches alone, so that hiding most of them makes it several times cheaper.

He, Chen, Xie, Li, Dollar and Girshick, "Masked autoencoders are scalable vision learners", 2021
(https://arxiv.org/abs/2111.06377).
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from headway.config import Optim, Recipe, bound
from headway.draws import Draws
from headway.pretext.narrow import Narrow, at, refuse_broken_heads
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, Panel, PretextTask
from headway.views.geometry import random_resized_crop
from headway.views.masks import grid_for, hidden_count, keep_indices

STEADY = 1e-6
"""Added to a patch's variance, which may be 0."""
HIDDEN = 0.86
"""The light grey of hidden patches where people look at them."""


class Masked(NamedTuple):
    """The deal: B whole pictures, the patches that the encoder may see (B K) and those it may not (B H)."""

    images: Tensor
    keep: Tensor
    hidden: Tensor


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
        bound(self, "ratio", above=0, below=1)
        bound(self, "depth", at_least=1)
        bound(self, "width", at_least=0)
        refuse_broken_heads(self)
        bound(self, "scale", above=0, at_most=1, rising=True)

    def build(self, backbone: Backbone, facts: Facts) -> "MAETask":
        """Make the task: a mask token and a light transformer that paints."""
        return MAETask(self, backbone.embed_dim, backbone.patch_size, facts)


class MAETask(PretextTask):
    """Paint the hidden patches."""

    needs: ClassVar[frozenset[str]] = frozenset({"keep"})

    def __init__(self, config: MAE, embed_dim: int, patch: int, facts: Facts):
        super().__init__()
        self.config, self.patch, self.size = config, patch, facts.size
        self.grid = facts.size // patch, facts.size // patch
        self.decoder = Narrow(embed_dim, patch * patch * facts.channels, self.grid, config.width, config.depth)

    def views(self, batch: Batch, draws: Draws) -> Masked:
        """Crop each picture and choose, in each, the same number of patches to keep."""
        images = random_resized_crop(batch.images, draws, self.size, scale=self.config.scale)
        patches = math.prod(grid_for(self.size, self.patch))  # refuses what has nothing to hide
        keep, mask = keep_indices(draws, patches, patches - hidden_count(patches, self.config.ratio))
        order = mask.byte().argsort(dim=1, stable=True)  # B N: the patches kept, then the hidden ones
        return Masked(images, keep, order[:, keep.shape[1] :])

    def forward(self, backbone: Backbone, views: Masked, clock: Clock) -> Outcome:
        """Mean squared error on the hidden patches, each normalised by its own mean and deviation."""
        painted = self._painted(backbone, views)  # B H p*p*C
        target = normalised(self._true(views, painted.dtype))  # B H p*p*C
        # Every picture hides equally many patches, so that the mean over patches is one over pictures too.
        loss = (painted - target).square().mean()
        return Outcome(loss, {"mean_colour_error": target.square().mean()})

    def panels(self, batch: Batch, views: Masked, backbone: Backbone | None = None) -> list[Panel]:
        """What the encoder sees, what is painted into the gaps, and the picture.

        The network paints patches of mean 0 and variance 1, so each is shown at the mean and variance of the true one.
        """
        shown = [Panel(f"dealt: {views.keep.shape[1]} of {math.prod(self.grid)} patches", self._filled(views, HIDDEN))]
        if backbone is not None:
            painted = self._painted(backbone, views)  # B H p*p*C
            true = self._true(views, painted.dtype)  # B H p*p*C
            picture = painted * (true.var(-1, keepdim=True) + STEADY).sqrt() + true.mean(-1, keepdim=True)
            errors = (painted - normalised(true)).square().flatten(1).mean(1).tolist()  # B
            title = "painted, each patch at its true mean and contrast"
            lines = [f"squared error {error:.2f}" for error in errors]
            shown.append(Panel(title, self._filled(views, picture), lines))
        return [*shown, Panel("the truth", views.images)]

    def _painted(self, backbone: Backbone, views: Masked) -> Tensor:
        """The hidden patches as the decoder paints them, at mean 0 and variance 1: B H p*p*C."""
        seen = backbone(views.images, keep=views.keep).patches  # B K D
        return self.decoder(seen, views.keep, views.hidden[:, None])[:, 0]

    def _true(self, views: Masked, dtype: torch.dtype) -> Tensor:
        """The pixels of the hidden patches: B H p*p*C."""
        return at(patchify(views.images.to(dtype), self.patch), views.hidden[:, None])[:, 0]

    def _filled(self, views: Masked, pixels: Tensor | float) -> Tensor:
        """The picture with other hidden patches, B H p*p*C or one grey for all: B C H W."""
        patches = patchify(views.images, self.patch)  # B N p*p*C
        places = views.hidden[..., None].expand(-1, -1, patches.shape[-1])  # B H p*p*C
        source = torch.as_tensor(pixels).to(patches).expand(places.shape)  # B H p*p*C
        return unpatchify(patches.scatter(1, places, source), self.patch, self.grid[0]).clamp(0, 1)


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


RECIPE = Recipe(task=MAE(), optim=Optim(method="muon", lr=4e-3, weight_decay=0.05), epochs=400, batch=256)
