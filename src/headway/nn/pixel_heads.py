"""Heads of pretext tasks that predict pixels: sub-pixel upsampling, a discriminator, and gradient reversal."""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SubPixelHead(nn.Module):
    """Upsample each token to s x s cells by a linear map and a rearrangement: B N D -> B rows*s columns*s M.

    Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural
    network", 2016 (https://arxiv.org/abs/1609.05158). A GELU follows; the last layer of the task reads the cells.

    Args:
        embed_dim: D, width of the tokens.
        patch_size: Side of a patch in pixels.
        cell_size: Approximate side of a cell in pixels: s = patch_size / cell_size, rounded down, at least 1.
        cell_dim: M, width of a cell's vector.
    """

    def __init__(self, embed_dim: int, patch_size: int, cell_size: int, cell_dim: int):
        super().__init__()
        self.upscale_factor = max(patch_size // cell_size, 1)
        self.expand = nn.Linear(embed_dim, self.upscale_factor**2 * cell_dim)

    def forward(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """B N D, on a grid of rows x columns = N -> B rows*s columns*s M."""
        s = self.upscale_factor
        x = F.gelu(self.expand(patches)).unflatten(2, (s, s, -1)).unflatten(1, grid)  # B rows columns s s M
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # B rows*s columns*s M


class Discriminator(nn.Module):
    """Tell real images from generated ones by four convolutions of stride 2: B C H W -> B, the logit of "real".

    The discriminator of Pathak et al., "Context encoders", 2016 (https://arxiv.org/abs/1604.07379), after Radford et
    al., "Unsupervised representation learning with deep convolutional generative adversarial networks", 2015
    (https://arxiv.org/abs/1511.06434), but smaller and without batch norms, so that images do not affect one another.

    Args:
        channels: C.
        base_channels: Channels after the first convolution; each further one doubles them.
    """

    def __init__(self, channels: int, base_channels: int = 32):
        super().__init__()
        widths = [channels, base_channels, 2 * base_channels, 4 * base_channels, 8 * base_channels]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))
        self.classifier = nn.Linear(widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        """B C H W -> B."""
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), 0.2)
        return self.classifier(x.mean((2, 3)))[:, 0]  # B


class _GradientReversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * -ctx.scale, None


def reverse_gradient(x: Tensor, scale: float = 1.0) -> Tensor:
    """Return ``x``; in the backward pass its gradient is multiplied by -``scale`` (0 or more).

    The layers after it minimize the loss and the layers before it maximize it, in one backward pass. Ganin and
    Lempitsky, "Unsupervised domain adaptation by backpropagation", 2015 (https://arxiv.org/abs/1409.7495).
    """
    return _GradientReversal.apply(x, scale)
