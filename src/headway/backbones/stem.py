"""Stems: they turn pixels into one token per patch."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.errors import HeadwayError
from headway.nn.batch_norm import BatchNorm


class LinearStem(nn.Module):
    """Split the image into patches and apply one linear map to each: B C H W -> B N D.

    A strided convolution computes the same, but takes a third longer on a CPU.

    Args:
        in_channels: C.
        embed_dim: D.
        patch_size: Side of a patch in pixels.
    """

    overlapping = False

    def __init__(self, in_channels: int, embed_dim: int, patch_size: int):
        super().__init__()
        self.patch_size = patch_size
        self.project = nn.Linear(in_channels * patch_size**2, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """B C H W -> B N D."""
        side = self.patch_size
        x = x.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # B C rows side columns side
        x = x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # B N C*side*side
        return self.project(x)


class ConvStem(nn.Module):
    """3x3 convolutions of stride 2 down to the patch grid, then a 1x1 convolution: B C H W -> B N D.

    Xiao et al., "Early convolutions help transformers see better", 2021 (https://arxiv.org/abs/2106.14881), with a
    layer norm over the channels of each pixel in place of batch norm, so that no image depends on its batch.
    Neighboring tokens share pixels, so masking must replace pixels before the stem, not tokens after it.

    Args:
        in_channels: C.
        embed_dim: D; half of the patch size must divide it.
        patch_size: Side of a patch in pixels; a power of two.

    Raises:
        HeadwayError: The patch size is no power of two from 2 on, or half of it does not divide ``embed_dim``.
    """

    overlapping = True

    def __init__(self, in_channels: int, embed_dim: int, patch_size: int):
        super().__init__()
        halvings = num_halvings(patch_size)
        if embed_dim % 2 ** (halvings - 1):
            raise HeadwayError(
                "image-size",
                f"a convolutional stem doubles its channels with each halving: half the patch size {patch_size} "
                f"must divide embed_dim {embed_dim}; or take stem='linear'",
            )
        widths = [in_channels, *[embed_dim >> (halvings - 1 - step) for step in range(halvings)]]
        pairs = list(pairwise(widths))
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False) for a, b in pairs)
        self.norms = nn.ModuleList(nn.LayerNorm(b, eps=1e-6) for _, b in pairs)
        self.project = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """B C H W -> B N D."""
        # Channels last is a third faster on a CPU, since the norm runs over channels.
        x = x.contiguous(memory_format=torch.channels_last)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.relu(norm(convolution(x).permute(0, 2, 3, 1)))  # B H/2 W/2 C
            x = x.permute(0, 3, 1, 2)  # B C H/2 W/2
        return self.project(x.permute(0, 2, 3, 1).flatten(1, 2))  # B N D


class ResidualStem(nn.Module):
    """A small residual network down to the patch grid, for ViTs of few tokens and few blocks: B C H W -> B N D.

    He et al., "Deep residual learning for image recognition", 2016 (https://arxiv.org/abs/1512.03385); before a
    transformer as in the hybrid of Dosovitskiy et al. 2021. Its batch norms, over all processes, couple the images of a
    batch. Neighboring tokens share pixels, so masking must replace pixels before the stem, not tokens after it.

    Args:
        in_channels: C.
        embed_dim: D.
        patch_size: Side of a patch in pixels; a power of two.
        base_channels: Channels of the first convolution; each block doubles them, and the last one outputs D.

    Raises:
        HeadwayError: The patch size is no power of two from 2 on.
    """

    overlapping = True

    def __init__(self, in_channels: int, embed_dim: int, patch_size: int, base_channels: int = 16):
        super().__init__()
        halvings = num_halvings(patch_size)
        early = max(halvings - 3, 0)  # large patches mean large images, where full resolution would cost too much
        self.conv1 = nn.Conv2d(in_channels, base_channels, 3, stride=2**early, padding=1, bias=False)
        self.norm = BatchNorm(base_channels)
        widths = [base_channels * 2**halving for halving in range(halvings - early)] + [embed_dim]
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise(widths))
        self.project = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """B C H W -> B N D."""
        x = x.contiguous(memory_format=torch.channels_last)
        x = F.relu(self.norm(self.conv1(x)))  # B base_channels H W, or lower for large patches
        for block in self.blocks:
            x = block(x)  # B C H/2 W/2
        return self.project(x.permute(0, 2, 3, 1).flatten(1, 2))  # B N D


class ResidualBlock(nn.Module):
    """relu(two 3x3 convolutions + shortcut of the input), at half the resolution: B C H W -> B C' H/2 W/2.

    Args:
        in_channels: C.
        out_channels: C'.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
        self.norm1 = BatchNorm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = BatchNorm(out_channels)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm3 = BatchNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """B C H W -> B C' H/2 W/2."""
        branch = F.relu(self.norm1(self.conv1(x)))
        branch = self.norm2(self.conv2(branch))
        return F.relu(branch + self.norm3(self.shortcut(F.avg_pool2d(x, 2))))


def num_halvings(patch_size: int) -> int:
    """Return log2 of the patch size. Raises HeadwayError unless it is a power of two from 2 on."""
    halvings = patch_size.bit_length() - 1
    if patch_size < 2 or patch_size != 2**halvings:
        raise HeadwayError(
            "image-size",
            f"a convolutional stem halves the resolution down to one pixel per patch: patch size {patch_size} must be "
            "a power of two; or take stem='linear'",
        )
    return halvings


STEMS: dict[str, type[LinearStem] | type[ConvStem] | type[ResidualStem]] = {
    "linear": LinearStem,
    "conv": ConvStem,
    "residual": ResidualStem,
}
