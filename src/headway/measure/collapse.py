"""Has the network collapsed? Four numbers that need no labels.

Features that all point one way satisfy many a pretext task and are worth nothing.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def effective_rank(features: Tensor) -> float:
    """In how many directions the features spread, from 1 to min(N, D): exp of the entropy of the singular values.

    RankMe: Garrido et al., 2023 (https://arxiv.org/abs/2210.02885): p_k = sigma_k / sum sigma; exp(-sum p_k log p_k).

    Args:
        features: N D, as they are (RankMe doesn't centre them).
    """
    sigma = torch.linalg.svdvals(features.double())  # min(N, D)
    shares = sigma / sigma.sum().clamp_min(1e-12)
    return float(torch.special.entr(shares).sum().exp())


def feature_std(features: Tensor) -> float:
    """Spread of normalised features, 0 where collapsed, about 1 where they fill the sphere.

    Chen and He, "Exploring simple Siamese representation learning", 2021 (https://arxiv.org/abs/2011.10566): the mean
    over the D coordinates of the standard deviation of z / |z|, here times sqrt(D) so that widths compare.

    Args:
        features: N D, N >= 2.
    """
    unit = F.normalize(features.double(), dim=1)  # N D
    return float(unit.std(dim=0).mean() * features.shape[1] ** 0.5)


def alignment(first: Tensor, second: Tensor, power: float = 2.0) -> float:
    """How near two views of one picture lie: mean of |z - z'|^power over pictures; 0 is best, at most 2^power.

    Wang and Isola, "Understanding contrastive representation learning through alignment and uniformity on the
    hypersphere", 2020 (https://arxiv.org/abs/2005.10242).

    Args:
        first: N D, features of one view of each picture.
        second: N D, of another view of the same pictures.
        power: Of the distance.
    """
    apart = F.normalize(first.double(), dim=1) - F.normalize(second.double(), dim=1)  # N D
    return float(apart.norm(dim=1).pow(power).mean())


def uniformity(features: Tensor, scale: float = 2.0) -> float:
    """How evenly features cover the sphere: log of the mean of exp(-scale |z_i - z_j|^2) over pairs; lower is better.

    0 where collapsed, about -2 x scale where pairs are orthogonal. Wang and Isola 2020, as for ``alignment``. It costs
    N^2 / 2 distances: a few thousand pictures are enough.

    Args:
        features: N D, N >= 2.
        scale: Of the Gaussian potential.
    """
    squared = torch.pdist(F.normalize(features.double(), dim=1)).square()  # N (N - 1) / 2
    return float((-scale * squared).logsumexp(0)) - math.log(len(squared))
