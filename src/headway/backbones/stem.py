"""Stems: from pixels to one token a patch."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.errors import HeadwayError


class LinearStem(nn.Module):
    """Cut into patches, one linear map for all: B C H W -> B N D.

    A strided convolution computes the same; on a processor it takes a third longer.

    Args:
        channels: C.
        width: D.
        patch_size: Pixels a side.
    """

    overlaps = False

    def __init__(self, channels: int, width: int, patch_size: int):
        super().__init__()
        self.patch_size = patch_size
        self.project = nn.Linear(channels * patch_size**2, width)

    def forward(self, x: Tensor) -> Tensor:
        """B C H W -> B N D."""
        side = self.patch_size
        x = x.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # B C rows side columns side
        x = x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # B N C*side*side
        return self.project(x)


class ConvStem(nn.Module):
    """3x3 convolutions of stride 2 down to the patch, then 1x1: B C H W -> B N D.

    Xiao et al., "Early convolutions help transformers see better", 2021 (https://arxiv.org/abs/2106.14881), with a
    layer norm over each pixel's channels in place of batch norm, so that no picture depends on its batch. Neighbouring
    tokens share pixels: hide pixels before, not tokens after.

    Args:
        channels: C.
        width: D.
        patch_size: Pixels a side; a power of two.

    Raises:
        HeadwayError: For a patch size that is no power of two from 2 on, or a width that it leaves too few channels.
    """

    overlaps = True

    def __init__(self, channels: int, width: int, patch_size: int):
        super().__init__()
        halvings = patch_size.bit_length() - 1
        if patch_size < 2 or patch_size != 2**halvings or width % 2 ** (halvings - 1):
            raise HeadwayError(
                f"a convolutional stem halves the picture until a patch is left: patch size {patch_size} must be a "
                f"power of two, and half of it must divide the width {width}; or take stem='linear'"
            )
        widths = [channels, *[width >> (halvings - 1 - step) for step in range(halvings)]]
        pairs = list(pairwise(widths))
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False) for a, b in pairs)
        self.norms = nn.ModuleList(nn.LayerNorm(b, eps=1e-6) for _, b in pairs)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """B C H W -> B N D."""
        x = x.contiguous(
            memory_format=torch.channels_last
        )  # a third faster on a processor: the norm runs over channels
        for convolve, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.relu(norm(convolve(x).permute(0, 2, 3, 1)))  # B H/2 W/2 C
            x = x.permute(0, 3, 1, 2)  # B C H/2 W/2
        return self.project(x.permute(0, 2, 3, 1).flatten(1, 2))  # B N D


STEMS: dict[str, type[LinearStem] | type[ConvStem]] = {"linear": LinearStem, "conv": ConvStem}
