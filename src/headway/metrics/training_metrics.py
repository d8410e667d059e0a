"""Metrics that tasks log while they train. They are detached and the same for any number of processes.

A collapsed network can have the lowest loss of all. ``representation`` measures a finished backbone; the metrics here
are cheap enough for every step. Each has one name in every log, which ``collapse_detection`` reads:

    feature_std          of the pooled features of the first views
    target_std           of the targets: projections, or the tokens of a teacher, position by position
    coordinate_std       of projections, where the loss asks for 1
    assignment_entropy   of an assignment to prototypes, before it is balanced; patch_... for patches
    marginal_entropy     of the mean assignment; patch_... for patches
    target_entropy       of an assignment after it is balanced over the batch; patch_... for patches
    cosine               mean cosine of predictions and targets
    contrastive_top1     fraction of images whose other view is the nearest of all
    mean_color_error     error of predicting nothing but a mean color
"""

import torch
from torch import Tensor

from headway.distributed import all_mean
from headway.nn.numerics import at_least_fp32, l2_normalize, no_autocast


@torch.no_grad()
def batch_feature_std(features: Tensor) -> Tensor:
    """Dispersion of the features of different images: 0 where all point one way, about 1 where they fill the sphere.

    The standard deviation of x / |x|, as a root mean square over the D coordinates, times sqrt(D) so that values of
    different D compare (Chen and He 2020, https://arxiv.org/abs/2011.10566, monitor the same quantity).

    Args:
        features: B D, of this process; the result covers all processes.
    """
    directions = l2_normalize(features)  # B D
    return all_mean((directions - all_mean(directions)).square()).sum().sqrt()


@torch.no_grad()
def coordinate_std(z: Tensor) -> Tensor:
    """Standard deviation of each coordinate over images, averaged over the D coordinates.

    Args:
        z: B D, of this process; the result covers all processes.
    """
    z = at_least_fp32(z)
    return all_mean((z - all_mean(z)).square()).sqrt().mean()


@torch.no_grad()
def assignment_entropies(assignments: Tensor) -> dict[str, Tensor]:
    """How images are assigned to K prototypes: two entropies in nats, from 0 to log K.

    Their difference is the information that an assignment carries of its image. It is 0 where all images get the same
    assignment, whether to one prototype (both entropies are 0) or to all alike (both are log K).

    Args:
        assignments: ... K, rows that sum to 1, of this process; the results cover all processes.

    Returns:
        ``assignment_entropy``, the mean entropy of an assignment, and ``marginal_entropy``, that of the mean
        assignment.
    """
    assignments = at_least_fp32(assignments).flatten(0, -2)  # B K
    mean_entropy = all_mean(torch.special.entr(assignments).sum(1))
    return {"assignment_entropy": mean_entropy, "marginal_entropy": torch.special.entr(all_mean(assignments)).sum()}


@torch.no_grad()
@no_autocast
def participation_ratio(covariance: Tensor) -> Tensor:
    """Number of directions among which the variance is distributed, from 1 to D; 0 where nothing varies.

    (sum of eigenvalues)^2 / sum of their squares, which needs no eigenvalues: trace(C)^2 / |C|^2.

    Args:
        covariance: D D, of all processes, symmetric.
    """
    return covariance.trace().square() / covariance.square().sum().clamp_min(1e-30)
