"""Resampling by separable filters with other taps for each image.

In a separable filter every output row is a weighted sum of a few input rows, its taps; columns likewise. Taps and
weights may differ between images. ``embedding_bag`` computes such weighted sums of rows in one fused operation. Crop,
antialiased resize and flip are combined in one set of taps; a Gaussian blur is another set.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Taps(NamedTuple):
    """Input pixels and weights of every output pixel along one axis.

    Attributes:
        indices: B S K, int64: the K input pixels of each of the S output pixels.
        weights: B S K, float32; the weights of an output pixel sum to 1.
    """

    indices: Tensor
    weights: Tensor


def _filter_height(images: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    batch, channels, height, width = images.shape
    side, count = weights.shape[1:]
    first_row = torch.arange(0, batch * channels * height, height, device=images.device)  # B*C, of each channel
    bags = indices[:, None] + first_row.view(batch, channels, 1, 1)  # B C S K
    per_tap = weights[:, None].expand(batch, channels, side, count)  # B C S K
    out = F.embedding_bag(
        bags.reshape(-1, count),  # B*C*S K
        images.reshape(-1, width),  # B*C*H W
        per_sample_weights=per_tap.reshape(-1, count),  # B*C*S K
        mode="sum",
    )
    return out.view(batch, channels, side, width)  # B C S W


def separable_filter(images: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Filter each image with its own taps.

    Args:
        images: B C H W, float32.
        rows: S output rows out of H.
        columns: T output columns out of W.

    Returns:
        B C S T.
    """
    turned = _filter_height(images, *rows).transpose(2, 3)  # B C W S
    return _filter_height(turned, *columns).transpose(2, 3).contiguous()  # B C S T


def resize_taps(start: Tensor, length: Tensor, in_size: int, out_size: int, flip: Tensor | None = None) -> Taps:
    """Return the taps that crop a segment of ``in_size`` pixels and resize it to ``out_size``, antialiased.

    The triangle filter of bilinear interpolation, widened by the factor of reduction and normalized:
    w(s, p) ~ max(0, 1 - |p + 1/2 - c(s)| / max(1, f)) with f = length / out_size and c(s) = start + f (s + 1/2).
    It is the filter of Pillow and of ``torch.nn.functional.interpolate(antialias=True)``
    (https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.interpolate.html).

    Args:
        start: B, start of the segment in pixels, not necessarily an integer.
        length: B, its length in pixels, more than 0. The segment must lie within 0..in_size.
        in_size: Pixels of the input.
        out_size: Pixels of the output.
        flip: B, bool: which outputs are reversed.
    """
    steps = torch.arange(out_size, device=start.device) + 0.5  # S
    if flip is not None:
        steps = torch.where(flip[:, None], out_size - steps, steps)  # B S
    factor = (length / out_size)[:, None]  # B 1
    radius = factor.clamp(min=1)  # B 1
    centers = start[:, None] + factor * steps  # B S
    count = min(math.ceil(2 * max(in_size / out_size, 1)), in_size)  # K: enough for the longest segment
    first = (centers - radius - 0.5).ceil().clamp(0, in_size - count)  # B S
    pixels = first[:, :, None] + torch.arange(count, device=start.device)  # B S K
    weights = (1 - (pixels + 0.5 - centers[:, :, None]).abs() / radius[:, :, None]).clamp(min=0)  # B S K
    # Pixels outside of the segment have no weight, as if the crop came first. A pixel partly inside counts in part.
    begin, end = start[:, None, None], (start + length)[:, None, None]  # B 1 1 each
    weights = weights * (torch.minimum(pixels + 1, end) - torch.maximum(pixels, begin)).clamp(0, 1)  # B S K
    return Taps(pixels.long(), weights / weights.sum(2, keepdim=True))


def blur_taps(sigma: Tensor, size: int, kernel: int) -> Taps:
    """Return the taps of a Gaussian blur, with reflection at both ends: tap t has weight exp(-t^2 / 2 sigma^2) / sum.

    Args:
        sigma: B, standard deviation in pixels, more than 0.
        size: Pixels of input and output.
        kernel: K, number of taps, an odd number below 2 size.

    Raises:
        ValueError: The kernel is even, or too wide for a reflection.
    """
    if kernel % 2 == 0 or kernel >= 2 * size:
        raise ValueError(f"the kernel of a blur is an odd number below twice the {size} pixels, got {kernel}")
    offsets = torch.arange(kernel, device=sigma.device) - kernel // 2  # K
    gaussian = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)  # B K
    weights = gaussian / gaussian.sum(1, keepdim=True)  # B K
    pixels = (torch.arange(size, device=sigma.device)[:, None] + offsets).abs()  # P K, reflected at the start
    pixels = size - 1 - (size - 1 - pixels).abs()  # P K, and at the end
    return Taps(pixels.expand(len(sigma), size, kernel), weights[:, None].expand(-1, size, -1))


def gaussian_blur(images: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Blur each image, with reflection at its edges.

    Args:
        images: B C H W, floating point in [0, 1].
        sigma: B, standard deviation in pixels, more than 0.
        kernel: Width of the kernel in pixels, an odd number below twice the shorter side.

    Returns:
        B C H W in [0, 1], within 2/255 of torchvision's ``gaussian_blur`` with the same kernel.

    Raises:
        ValueError: The kernel is even, or too wide for a reflection.
    """
    height, width = images.shape[2:]
    return separable_filter(images, blur_taps(sigma, height, kernel), blur_taps(sigma, width, kernel)).clamp_(0, 1)
