"""Resampling as weighted bags of pixel rows.

In a separable filter every output row is a weighted sum of a few input rows, its taps; columns likewise. Taps and
weights may differ from picture to picture, and a sum of weighted rows is what ``embedding_bag`` computes in one fused
pass. Crop, antialiased resize and mirror fold into one set of taps; a Gaussian blur is another.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Taps(NamedTuple):
    """Which input pixels an output pixel is made of, along one axis.

    Attributes:
        pixels: B S K, whole numbers: the K input pixels of each of the S output pixels.
        weights: B S K, float32; the weights of an output pixel add up to 1.
    """

    pixels: Tensor
    weights: Tensor


def _along_height(images: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
    batch, channels, height, width = images.shape
    side, count = weights.shape[1:]
    first_row = torch.arange(0, batch * channels * height, height, device=images.device)  # B*C: of each plane
    bags = pixels[:, None] + first_row.view(batch, channels, 1, 1)  # B C S K
    per_tap = weights[:, None].expand(batch, channels, side, count)  # B C S K
    out = F.embedding_bag(
        bags.reshape(-1, count),  # B*C*S K
        images.reshape(-1, width),  # B*C*H W
        per_sample_weights=per_tap.reshape(-1, count),  # B*C*S K
        mode="sum",
    )
    return out.view(batch, channels, side, width)  # B C S W


def separable(images: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Filter each picture with taps of its own.

    Args:
        images: B C H W, float32.
        rows: S output rows out of H.
        columns: T output columns out of W.

    Returns:
        B C S T.
    """
    turned = _along_height(images, *rows).transpose(2, 3)  # B C W S
    return _along_height(turned, *columns).transpose(2, 3).contiguous()  # B C S T


def resize_taps(start: Tensor, length: Tensor, size: int, side: int, mirror: Tensor | None = None) -> Taps:
    """Cut a stretch of ``size`` pixels and resize it to ``side``, antialiased when it shrinks.

    The triangle filter of bilinear interpolation, widened by the factor of shrinking and normalised:
    w(s, p) ~ max(0, 1 - |p + 1/2 - c(s)| / max(1, f)) with f = length / side and c(s) = start + f (s + 1/2).
    The filter of Pillow and of ``torch.nn.functional.interpolate(antialias=True)``
    (https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.interpolate.html).

    Args:
        start: B, where the stretch begins, in pixels; fractions count.
        length: B, its length in pixels, more than 0. A stretch must lie within 0..size.
        size: Pixels of the input.
        side: Pixels of the output.
        mirror: B, bool: which outputs run backwards.
    """
    steps = torch.arange(side, device=start.device) + 0.5  # S
    if mirror is not None:
        steps = torch.where(mirror[:, None], side - steps, steps)  # B S
    factor = (length / side)[:, None]  # B 1
    reach = factor.clamp(min=1)  # B 1
    centres = start[:, None] + factor * steps  # B S
    count = min(math.ceil(2 * max(size / side, 1)), size)  # K: enough for the longest stretch
    first = (centres - reach - 0.5).ceil().clamp(0, size - count)  # B S
    pixels = first[:, :, None] + torch.arange(count, device=start.device)  # B S K
    weights = (1 - (pixels + 0.5 - centres[:, :, None]).abs() / reach[:, :, None]).clamp(min=0)  # B S K
    # Pixels outside the stretch must not leak in: the cut comes before the resize. A pixel cut in two counts in part.
    begin, end = start[:, None, None], (start + length)[:, None, None]  # B 1 1 each
    weights = weights * (torch.minimum(pixels + 1, end) - torch.maximum(pixels, begin)).clamp(0, 1)  # B S K
    return Taps(pixels.long(), weights / weights.sum(2, keepdim=True))


def blur_taps(sigma: Tensor, size: int, kernel: int) -> Taps:
    """A Gaussian along ``size`` pixels that are mirrored at both ends: tap t weighs exp(-t^2 / 2 sigma^2), normalised.

    Args:
        sigma: B, standard deviation in pixels, more than 0.
        size: Pixels in and out.
        kernel: K taps, an odd number below 2 size.

    Raises:
        ValueError: For an even kernel, or one that reaches past the mirror image.
    """
    if kernel % 2 == 0 or kernel >= 2 * size:
        raise ValueError(f"a blur's kernel is an odd number below twice the {size} pixels, got {kernel}")
    offsets = torch.arange(kernel, device=sigma.device) - kernel // 2  # K
    bell = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)  # B K
    weights = bell / bell.sum(1, keepdim=True)  # B K
    pixels = (torch.arange(size, device=sigma.device)[:, None] + offsets).abs()  # P K, mirrored at the left
    pixels = size - 1 - (size - 1 - pixels).abs()  # P K, and at the right
    return Taps(pixels.expand(len(sigma), size, kernel), weights[:, None].expand(-1, size, -1))
