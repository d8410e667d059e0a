"""Mean and standard deviation of each channel of a data set, for the normalization of a backbone's input."""

import math

import torch

from headway.data.dataset.subset import Images, evenly_spaced_indices
from headway.protocol import InputSpec

STATISTICS_IMAGES, STATISTICS_CHUNK = 2000, 16
"""Number of images that are measured, and how many of them at a time, since images may be large."""


def channel_statistics(images: Images) -> InputSpec:
    """Mean and standard deviation of every channel, over at most 2,000 evenly spaced images of N C H W."""
    chosen = torch.tensor(evenly_spaced_indices(len(images), STATISTICS_IMAGES), dtype=torch.int64)
    scale = 255.0 if images.dtype == torch.uint8 else 1.0
    sums, squares = torch.zeros(2, images.shape[1], dtype=torch.float64)  # C each
    for rows in chosen.split(STATISTICS_CHUNK):
        chunk = images[rows].double() / scale  # n C H W
        sums += chunk.sum((0, 2, 3))
        squares += chunk.square().sum((0, 2, 3))
    count = len(chosen) * math.prod(images.shape[2:])
    mean = sums / count
    std = ((squares - sums * mean).clamp_min(0) / (count - 1)).sqrt().clamp_min(1e-3)
    return InputSpec(
        tuple(round(m, 4) for m in mean.tolist()), tuple(round(s, 4) for s in std.tolist()), channels=images.shape[1]
    )
