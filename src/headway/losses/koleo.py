"""KoLeo: every image moves away from its nearest neighbor, so that features spread evenly over the sphere.

    loss = - mean_i log min_{j != i} || x_i - x_j ||,   x of length 1

Up to constants this is the negative entropy of the features, as Kozachenko and Leonenko estimate it from nearest
neighbors.

Sablayrolles, Douze, Schmid and Jegou, "Spreading vectors for similarity search", 2019
(https://arxiv.org/abs/1806.03198).
"""

import torch
from torch import Tensor

from headway.distributed import all_gather_rows, duplicate_mask
from headway.nn.numerics import l2_normalize, no_autocast

MIN_DISTANCE = 1e-8
"""Smaller distances count as this one, so that the logarithm stays finite for two equal images."""


@no_autocast
def koleo_loss(features: Tensor, sample_index: Tensor | None = None) -> Tensor:
    """The mean over this process's rows. Nearest neighbors are searched on all processes.

    Args:
        features: B D, of any length. There must be two rows or more over all processes.
        sample_index: B, int64: the image of each row. Rows of the same image are no neighbors. None: all images differ.
    """
    features = l2_normalize(features)  # B D
    gathered, start = all_gather_rows(features)  # A D
    own = torch.arange(start, start + len(features), device=features.device)[:, None]  # B 1
    with torch.no_grad():
        similarity = (features @ gathered.T).scatter(1, own, float("-inf"))  # B A
        if sample_index is not None:
            similarity = similarity.masked_fill(duplicate_mask(sample_index), float("-inf"))
        nearest = similarity.argmax(1)  # B
    squared = (features - gathered[nearest]).square().sum(1)  # B
    return -(squared + MIN_DISTANCE**2).log().mean() / 2  # the log of the root; its slope at 0 is 0, not infinite
