"""Measures of a representation that need no labels: collapse, alignment, uniformity, and three for ranking runs.

Features that all point one way can satisfy a pretext task and are worth nothing. RankMe (``effective_rank``), LiDAR and
alpha-ReQ rank runs before anything is labeled. None of them is accuracy: ``spearman`` measures how well they order runs
whose accuracy is known.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LIDAR_DELTA = 1e-4
"""LiDAR: delta below, the paper's value."""
ALPHA_REQ_FIRST, ALPHA_REQ_LAST = 4, 50
"""alpha-ReQ: the line is fitted through these eigenvalues, counted from 1. The first few follow no power law."""


def effective_rank(features: Tensor) -> float:
    """Number of directions that the features use, from 1 to min(N, D): exp of the entropy of the singular values.

    RankMe: Garrido et al., 2023 (https://arxiv.org/abs/2210.02885): p_k = sigma_k / sum sigma; exp(-sum p_k log p_k).

    Args:
        features: N D, not centered (as in RankMe).
    """
    return _exp_entropy(torch.linalg.svdvals(features.double()), 1e-12)


def feature_std(features: Tensor) -> float:
    """Standard deviation of normalized features, 0 where collapsed, about 1 where they fill the sphere.

    Chen and He, "Exploring simple Siamese representation learning", 2021 (https://arxiv.org/abs/2011.10566): the mean
    over the D coordinates of the standard deviation of z / |z|, here times sqrt(D) so that values of different D
    compare.

    Args:
        features: N D, N >= 2.
    """
    unit = F.normalize(features.double(), dim=1)  # N D
    return float(unit.std(dim=0).mean() * features.shape[1] ** 0.5)


def alignment(first: Tensor, second: Tensor) -> float:
    """Distance of two views of one image: mean of |z - z'|^2 over images; 0 is best, at most 4.

    Wang and Isola, "Understanding contrastive representation learning through alignment and uniformity on the
    hypersphere", 2020 (https://arxiv.org/abs/2005.10242).

    Args:
        first: N D, features of one view of each image.
        second: N D, features of another view of the same images.
    """
    difference = F.normalize(first.double(), dim=1) - F.normalize(second.double(), dim=1)  # N D
    return float(difference.norm(dim=1).square().mean())


def uniformity(features: Tensor) -> float:
    """How evenly features cover the sphere: log of the mean of exp(-2 |z_i - z_j|^2) over pairs; lower is better.

    0 where collapsed, about -4 where pairs are orthogonal. Wang and Isola 2020, as for ``alignment``. It costs
    N^2 / 2 distances: a few thousand images are enough.

    Args:
        features: N D, N >= 2.
    """
    squared = torch.pdist(F.normalize(features.double(), dim=1)).square()  # N (N - 1) / 2
    return float((-2.0 * squared).logsumexp(0)) - math.log(len(squared))


def lidar(views: Tensor, delta: float = LIDAR_DELTA) -> float:
    """Number of directions in which images differ more than views of one image do, from 1 to D.

    Thilak et al., "LiDAR: sensing linear probing performance in joint embedding SSL architectures", 2023
    (https://arxiv.org/abs/2312.04000). With mean m_i of the V views of image i and mean m of all,

        S_b = mean_i (m_i - m)(m_i - m)^T            S_w = mean_iv (z_iv - m_i)(z_iv - m_i)^T + delta I
        lambda = eigenvalues of S_w^(-1/2) S_b S_w^(-1/2)       p = lambda / sum lambda       exp(-sum_k p_k log p_k)

    Args:
        views: N V D, features of V views of each of N images; N should exceed D.
        delta: Ridge that is added to S_w.

    Raises:
        ValueError: ``views`` has another number of axes, or fewer than two images or views.
    """
    if views.ndim != 3 or min(views.shape[:2]) < 2:
        raise ValueError(f"views must be N V D with at least two images and two views, got {tuple(views.shape)}")
    z = views.double()
    means = z.mean(1)  # N D
    between, within = means - means.mean(0), (z - means[:, None]).flatten(0, 1)  # N D, N*V D
    s_w = within.T @ within / len(within) + delta * torch.eye(z.shape[2], dtype=z.dtype)  # D D
    values, axes = torch.linalg.eigh(s_w)  # D, D D
    whitened = between @ (axes / values.sqrt())  # N D: rotated and scaled so that S_w is the identity
    eigenvalues = torch.linalg.svdvals(whitened).square()  # min(N, D); of S_b after whitening, except for a factor N
    return _exp_entropy(eigenvalues, 1e-30)


def _exp_entropy(values: Tensor, min_sum: float) -> float:
    """Exponential of the entropy of nonnegative values, as shares of their sum."""
    shares = values / values.sum().clamp_min(min_sum)
    return float(torch.special.entr(shares).sum().exp())


def covariance_eigenvalues(features: Tensor) -> Tensor:
    """Eigenvalues of the covariance of N D features, largest first: min(N, D), float64."""
    z = features.double()
    return torch.linalg.svdvals(z - z.mean(0)).square() / (len(z) - 1)


def alpha_req(features: Tensor) -> float:
    """Decay of the eigenvalues of the covariance, alpha in lambda_j ~ j^-alpha; nearest to 1 is best.

    Agrawal et al., "alpha-ReQ: assessing representation quality in self-supervised learning by measuring eigenspectrum
    decay", 2022 (https://doi.org/10.52202/068431-1281): near 1 features are rich and smooth. Far above 1, few
    directions carry everything; far below 1, noise does. The slope is fitted as by Stringer et al., "High-dimensional
    geometry of population responses in visual cortex", 2019 (https://doi.org/10.1038/s41586-019-1346-5): least squares
    of log lambda_j on log j with weights 1 / j, here for j from ALPHA_REQ_FIRST to ALPHA_REQ_LAST or to the last
    eigenvalue that is not zero.

    Args:
        features: N D, N and D above ALPHA_REQ_FIRST + 1.

    Returns:
        alpha; infinity where fewer than two eigenvalues in that range differ from zero.
    """
    values = covariance_eigenvalues(features)
    values = values[: int((values > values[0] * 1e-12).sum())][:ALPHA_REQ_LAST][ALPHA_REQ_FIRST - 1 :]
    j = torch.arange(ALPHA_REQ_FIRST, ALPHA_REQ_FIRST + len(values), dtype=torch.float64)
    if len(j) < 2:
        return float("inf")
    weights = (1 / j) / (1 / j).sum()
    x, y = j.log(), values.log()
    x, y = x - (weights * x).sum(), y - (weights * y).sum()
    return -float((weights * x * y).sum() / (weights * x * x).sum())


def spearman(first: list[float], second: list[float]) -> float | None:
    """Rank correlation of two lists, from -1 to 1; None with fewer than three values, or where one list is constant."""
    if len(first) < 3 or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    from scipy.stats import spearmanr  # imported late: it takes a second

    return float(spearmanr(first, second).statistic)
