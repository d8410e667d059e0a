"""Is a run healthy? Detached numbers that tasks log while they train, the same on any number of processes.

A collapsed network can have the lowest loss of all. ``collapse.py`` measures a finished backbone; these are cheap
enough for every step. Each has one name in every log, which ``symptoms.py`` knows:

    spread               of the pooled features of the first views
    target_spread        of what is to be foretold or found: projections, or a teacher's tokens, place by place
    deviation            of projections, where a task asks that it be 1
    answer_entropy       of an answer in prototypes, before anything balances it; patch_... of those on patches
    prototype_entropy    of the mean answer; patch_... of those on patches
    label_entropy        of an answer after it was balanced over the batch; patch_... of those on patches
    likeness             mean cosine between what is foretold and its target
    agreement            share of pictures whose other view is the nearest of all
    mean_colour_error    the error of who paints nothing but a mean colour
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
def deviation(z: Tensor) -> Tensor:
    """The standard deviation of a coordinate over pictures, its mean over the D coordinates.

    Args:
        z: B D, of this process; the number is that of all processes.
    """
    z = wide(z)
    return all_mean((z - all_mean(z)).square()).sqrt().mean()


@torch.no_grad()
def entropies(answers: Tensor) -> dict[str, Tensor]:
    """How answers are shared out among K prototypes: two entropies in nats, from 0 to log K.

    Their difference is what an answer tells of the picture: 0 where all pictures get the same one, be it one prototype
    (both are 0) or all prototypes alike (both are log K).

    Args:
        answers: ... K, rows that sum to 1, of this process; the numbers are those of all processes.

    Returns:
        ``answer_entropy``, the mean entropy of an answer, and ``prototype_entropy``, that of the mean answer.
    """
    answers = wide(answers).flatten(0, -2)  # B K
    each = all_mean(torch.special.entr(answers).sum(1))
    return {"answer_entropy": each, "prototype_entropy": torch.special.entr(all_mean(answers)).sum()}


@torch.no_grad()
@full_precision
def dimensions(covariance: Tensor) -> Tensor:
    """Over how many directions the variance is spread, from 1 to D: (sum of eigenvalues)^2 / sum of their squares.

    The participation ratio, which needs no eigenvalues: trace(C)^2 / |C|^2. 0 where nothing varies at all.

    Args:
        covariance: D D, of all processes, symmetric.
    """
    return covariance.trace().square() / covariance.square().sum().clamp_min(1e-30)
