"""SimMIM: hide three fifths of the picture and paint the pixels back with one linear layer.

With x_p the pixels of patch p (each channel at mean 0 and deviation 1 over the data) and M the hidden patches,

    loss = mean_{p in M} | W f(x with a learned token at M)_p - x_p |         over all pixels of the patch

Hidden and seen patches go through the backbone alike, so any backbone that can be masked will do; and since the head
is only one layer, the backbone itself must paint.

Xie, Zhang, Cao, Lin, Bao, Yao, Dai and Hu, "SimMIM: a simple framework for masked image modeling", 2021
(https://arxiv.org/abs/2111.09886).
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from headway.config import Optim, Recipe, bound
from headway.draws import Draws
from headway.errors import HeadwayError
from headway.nn.numerics import wide
from headway.pretext.mae import patchify, unpatchify
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, Panel, PretextTask
from headway.views.geometry import random_resized_crop
from headway.views.masks import covered, grid_for, hidden_count, random_masks, upscale


class Hidden(NamedTuple):
    """The deal: B whole pictures, and the patches to hide (B N, bool)."""

    images: Tensor
    mask: Tensor


@dataclass(frozen=True)
class SimMIM:
    """Choices of SimMIM."""

    ratio: float = 0.6
    """Share of the picture hidden."""
    unit: int = 0
    """Patches a side that are hidden together; 0: a sixth of the picture's side (32 of 192 pixels in the paper), or the
    nearest to it that divides the grid."""
    scale: tuple[float, float] = (0.67, 1.0)
    """Share of the picture's area that a crop keeps."""

    def __post_init__(self) -> None:
        bound(self, "ratio", above=0, below=1)
        bound(self, "unit", at_least=0)
        bound(self, "scale", above=0, at_most=1, rising=True)

    def build(self, backbone: Backbone, facts: Facts) -> "SimMIMTask":
        """Make the task: a mask token and one linear layer from a token to its patch."""
        return SimMIMTask(self, backbone, facts)


class SimMIMTask(PretextTask):
    """Paint the hidden patches."""

    needs: ClassVar[frozenset[str]] = frozenset({"mask"})

    def __init__(self, config: SimMIM, backbone: Backbone, facts: Facts):
        super().__init__()
        self.config, self.patch, self.size = config, backbone.patch_size, facts.size
        self.grid = grid_for(facts.size, self.patch)
        fitting = [unit for unit in range(1, self.grid[0]) if self.grid[0] % unit == 0]
        self.unit = config.unit or min(fitting, key=lambda unit: abs(unit - self.grid[0] / 6))
        if self.unit not in fitting:
            raise HeadwayError(f"simmim unit {self.unit} must divide the {self.grid[0]} patches of a side: {fitting}")
        self.mask_token = nn.Parameter(torch.randn(backbone.fill_dim) * 0.02)
        self.paint = nn.Linear(backbone.embed_dim, self.patch**2 * facts.channels)
        self.mean, self.std = backbone.inputs.mean, backbone.inputs.std

    def views(self, batch: Batch, draws: Draws) -> Hidden:
        """Crop each picture and hide, in each, the same number of units anywhere."""
        images = random_resized_crop(batch.images, draws, self.size, scale=self.config.scale)
        side = self.grid[0] // self.unit
        hidden = hidden_count(side * side, self.config.ratio) / (side * side)
        mask = upscale(random_masks(draws, side * side, hidden), (side, side), self.unit).flatten(1)  # B N
        return Hidden(images, mask)

    def forward(self, backbone: Backbone, views: Hidden, clock: Clock) -> Outcome:
        """Mean absolute error on the hidden patches, each picture hiding equally many."""
        painted = self._painted(backbone, views)  # B N p*p*C
        target = patchify(self._standard(views.images.to(painted.dtype)), self.patch)  # B N p*p*C
        loss = (painted - target)[views.mask].abs().mean()
        plain = target[views.mask].abs().mean()  # the error of who paints everything in the mean colour
        return Outcome(loss, {"mean_colour_error": plain})

    def panels(self, batch: Batch, views: Hidden, backbone: Backbone | None = None) -> list[Panel]:
        """The picture with its hidden patches, what is painted there, and the truth."""
        shown = [Panel("dealt", covered(views.images, views.mask, self.grid))]
        if backbone is not None:
            painted = self._painted(backbone, views)  # B N p*p*C
            target = patchify(self._standard(views.images.to(painted.dtype)), self.patch)  # B N p*p*C
            error = (painted - target)[views.mask].abs().reshape(len(target), -1).mean(1)  # B
            mean, std = (painted.new_tensor(numbers).view(-1, 1, 1) for numbers in (self.mean, self.std))
            picture = (unpatchify(painted, self.patch, self.grid[0]) * std + mean).clamp(0, 1).float()  # B C H W
            pixels = upscale(views.mask, self.grid, self.patch)[:, None]  # B 1 H W
            lines = [f"error {value:.2f} deviations" for value in error.tolist()]
            shown.append(Panel("painted", torch.where(pixels, picture, views.images), lines))
        return [*shown, Panel("the truth", views.images)]

    def _painted(self, backbone: Backbone, views: Hidden) -> Tensor:
        """Every patch as the network paints it: B N p*p*C."""
        return wide(self.paint(backbone(views.images, mask=views.mask, fill=self.mask_token).patches))

    def _standard(self, images: Tensor) -> Tensor:
        """Each channel at the mean and deviation that the backbone was told of: B C H W."""
        mean, std = (images.new_tensor(numbers).view(-1, 1, 1) for numbers in (self.mean, self.std))  # C 1 1
        return (images - mean) / std


RECIPE = Recipe(
    task=SimMIM(), optim=Optim(method="muon", lr=4e-3, weight_decay=0.05, betas=(0.9, 0.999)), epochs=400, batch=256
)
