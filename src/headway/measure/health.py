"""Is a run healthy? Detached numbers that tasks log while they train, the same on any number of processes.

A collapsed network can have the lowest loss of all. ``collapse.py`` measures a finished backbone; these are cheap
enough for every step.
"""

import torch
from torch import Tensor

from headway.distributed import all_mean
from headway.nn.numerics import full_precision, unit, wide


@torch.no_grad()
def spread(features: Tensor) -> Tensor:
    """How far features of different pictures lie apart: 0 where all point one way, about 1 where they fill the sphere.

    The standard deviation of x / |x|, as a root mean square over the D coordinates, times sqrt(D) so that widths
    compare (Chen and He 2020, https://arxiv.org/abs/2011.10566, watch it the same way).

    Args:
        features: B D, of this process; the number is that of all processes.
    """
    directions = unit(features)  # B D
    return all_mean((directions - all_mean(directions)).square()).sum().sqrt()


@torch.no_grad()
def usage(shares: Tensor) -> Tensor:
    """How many prototypes are in use, from 1 to K: exp of the entropy of the mean share.

    Args:
        shares: ... K, rows that sum to 1, of this process; the number is that of all processes.
    """
    mean = all_mean(wide(shares).flatten(0, -2))  # K
    return torch.special.entr(mean).sum().exp()


@torch.no_grad()
@full_precision
def dimensions(covariance: Tensor) -> Tensor:
    """Over how many directions the variance is spread, from 1 to D: (sum of eigenvalues)^2 / sum of their squares.

    The participation ratio, which needs no eigenvalues: trace(C)^2 / |C|^2. 0 where nothing varies at all.

    Args:
        covariance: D D, of all processes, symmetric.
    """
    return covariance.trace().square() / covariance.square().sum().clamp_min(1e-30)
