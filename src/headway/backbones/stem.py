"""Stems: from pixels to one token a patch."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.errors import HeadwayError
from headway.nn.batch_norm import BatchNorm


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
        halvings = halvings_of(patch_size)
        if width % 2 ** (halvings - 1):
            raise HeadwayError(
                f"a convolutional stem doubles its channels from halving to halving: half the patch size "
                f"{patch_size} must divide the width {width}; or take stem='linear'"
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


class ResidualStem(nn.Module):
    """A small residual network down to the patch, so that few tokens and few blocks are left to do: B C H W -> B N D.

    He et al., "Deep residual learning for image recognition", 2016 (https://arxiv.org/abs/1512.03385); before a
    transformer as in Dosovitskiy et al. 2021 (their hybrid). Its batch norms, over all processes, tie the pictures of a
    batch together. Neighbouring tokens share pixels: hide pixels before, not tokens after.

    Args:
        channels: C.
        width: D.
        patch_size: Pixels a side; a power of two.
        first: Channels of the first convolution; they double with each halving, and the last one leaves D.

    Raises:
        HeadwayError: For a patch size that is no power of two from 2 on.
    """

    overlaps = True

    def __init__(self, channels: int, width: int, patch_size: int, first: int = 16):
        super().__init__()
        halvings = halvings_of(patch_size)
        early = max(halvings - 3, 0)  # large patches are of large pictures, whose every pixel costs too much
        self.enter = nn.Conv2d(channels, first, 3, stride=2**early, padding=1, bias=False)
        self.norm = BatchNorm(first)
        widths = [first * 2**halving for halving in range(halvings - early)] + [width]
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise(widths))
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """B C H W -> B N D."""
        x = x.contiguous(memory_format=torch.channels_last)
        x = F.relu(self.norm(self.enter(x)))  # B first H W, or less for large patches
        for block in self.blocks:
            x = block(x)  # B C H/2 W/2
        return self.project(x.permute(0, 2, 3, 1).flatten(1, 2))  # B N D


class ResidualBlock(nn.Module):
    """relu(two 3x3 convolutions + the input), at half the side: B C H W -> B C' H/2 W/2.

    Args:
        before: C.
        after: C'.
    """

    def __init__(self, before: int, after: int):
        super().__init__()
        self.convolve1 = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
        self.norm1 = BatchNorm(after)
        self.convolve2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = BatchNorm(after)
        self.shortcut = nn.Conv2d(before, after, 1, bias=False)
        self.norm3 = BatchNorm(after)

    def forward(self, x: Tensor) -> Tensor:
        """B C H W -> B C' H/2 W/2."""
        branch = F.relu(self.norm1(self.convolve1(x)))
        branch = self.norm2(self.convolve2(branch))
        return F.relu(branch + self.norm3(self.shortcut(F.avg_pool2d(x, 2))))


def halvings_of(patch_size: int) -> int:
    """How often a picture is halved until a patch is left. Raises HeadwayError for what is no power of two from 2 on."""
    halvings = patch_size.bit_length() - 1
    if patch_size < 2 or patch_size != 2**halvings:
        raise HeadwayError(
            f"a convolutional stem halves the picture until a patch is left: patch size {patch_size} must be a power "
            "of two; or take stem='linear'"
        )
    return halvings


STEMS: dict[str, type[LinearStem] | type[ConvStem] | type[ResidualStem]] = {
    "linear": LinearStem,
    "conv": ConvStem,
    "residual": ResidualStem,
}
