"""Which run is better, before anybody has labelled anything? Three numbers from the spectrum of the features.

RankMe is ``collapse.effective_rank`` (Garrido et al. 2023). The other two are here. None of them is accuracy: how well
they order runs is measured, where labels are at hand, by ``spearman``.
"""

import torch
from scipy.stats import spearmanr
from torch import Tensor

RIDGE = 1e-4
"""LiDAR: delta below, the paper's."""
FIRST, LAST = 4, 50
"""alpha-ReQ: eigenvalues that the line is fitted through, counted from 1 (the first few follow no power law)."""


def lidar(views: Tensor, ridge: float = RIDGE) -> float:
    """In how many directions pictures differ more than views of one picture do, from 1 to D.

    Thilak et al., "LiDAR: sensing linear probing performance in joint embedding SSL architectures", 2023
    (https://arxiv.org/abs/2312.04000). With mean m_i of the V views of picture i and mean m of all,

        S_b = mean_i (m_i - m)(m_i - m)^T            S_w = mean_iv (z_iv - m_i)(z_iv - m_i)^T + delta I
        lambda = eigenvalues of S_w^(-1/2) S_b S_w^(-1/2)       p = lambda / sum lambda       exp(-sum_k p_k log p_k)

    Args:
        views: N V D, features of V views of each of N pictures; N should exceed D.
        ridge: delta.

    Raises:
        ValueError: Another number of axes, or fewer than two pictures or views.
    """
    if views.ndim != 3 or min(views.shape[:2]) < 2:
        raise ValueError(f"views must be N V D with two pictures and two views at least, got {tuple(views.shape)}")
    z = views.double()
    means = z.mean(1)  # N D
    apart, within = means - means.mean(0), (z - means[:, None]).flatten(0, 1)  # N D, N*V D
    width = z.shape[2]
    s_w = within.T @ within / len(within) + ridge * torch.eye(width, dtype=z.dtype)  # D D
    values, axes = torch.linalg.eigh(s_w)  # D, D D
    white = apart @ (axes / values.sqrt())  # N D: turned and scaled so that S_w is the identity
    spectrum = torch.linalg.svdvals(white).square()  # min(N, D); of S_b after whitening, but for the factor N
    shares = spectrum / spectrum.sum().clamp_min(1e-30)
    return float(torch.special.entr(shares).sum().exp())


def spectrum(features: Tensor) -> Tensor:
    """Eigenvalues of the covariance of N D features, largest first: min(N, D), float64."""
    z = features.double()
    return torch.linalg.svdvals(z - z.mean(0)).square() / (len(z) - 1)


def decay(features: Tensor) -> float:
    """How fast the eigenvalues of the covariance fall, alpha in lambda_j ~ j^-alpha; nearest to 1 is best.

    Agrawal et al., "alpha-ReQ: assessing representation quality in self-supervised learning by measuring eigenspectrum
    decay", 2022 (https://doi.org/10.52202/068431-1281): near 1 features are rich and smooth; much above, few
    directions carry all; much below, noise does. The slope is fitted as by Stringer et al., "High-dimensional geometry
    of population responses in visual cortex", 2019 (https://doi.org/10.1038/s41586-019-1346-5): least squares of
    log lambda_j on log j with weights 1 / j, here for j from FIRST to LAST, or to the last that is not nought.

    Args:
        features: N D, N and D above FIRST + 1.

    Returns:
        alpha; infinity where fewer than two eigenvalues in that range differ from nought.
    """
    values = spectrum(features)
    values = values[: int((values > values[0] * 1e-12).sum())]
    j = torch.arange(FIRST, LAST + 1, dtype=torch.float64)[: max(len(values) - FIRST + 1, 0)]
    if len(j) < 2:
        return float("inf")
    weights = (1 / j) / (1 / j).sum()
    x, y = j.log(), values[FIRST - 1 : FIRST - 1 + len(j)].log()
    x, y = x - (weights * x).sum(), y - (weights * y).sum()
    return -float((weights * x * y).sum() / (weights * x * x).sum())


def spearman(first: list[float], second: list[float]) -> float | None:
    """Rank correlation of two lists, from -1 to 1; None with fewer than three, or where either is all alike."""
    if len(first) < 3 or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(spearmanr(first, second).statistic)
