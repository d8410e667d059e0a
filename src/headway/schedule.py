"""Schedules as pure functions of a run's progress. They hold no state, so a checkpoint has nothing to save."""

import math


def cosine(progress: float, start: float, end: float) -> float:
    """Half a cosine period from ``start`` (at progress 0) to ``end`` (at progress 1)."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


def warmup_cosine(progress: float, warmup_fraction: float, final_factor: float = 0.0) -> float:
    """Learning-rate factor: linear warm-up from 0 to 1, then cosine decay to ``final_factor``.

    Loshchilov and Hutter, "SGDR", 2017 (https://arxiv.org/abs/1608.03983); warm-up as in Goyal et al., "Accurate, large
    minibatch SGD", 2017 (https://arxiv.org/abs/1706.02677).

    Args:
        progress: Completed fraction of the run, in [0, 1].
        warmup_fraction: Fraction of the run that the warm-up takes, in [0, 1).
        final_factor: The factor at the end of the run.
    """
    if progress < warmup_fraction:
        return progress / warmup_fraction
    return cosine((progress - warmup_fraction) / (1.0 - warmup_fraction), 1.0, final_factor)


def linear_ramp(progress: float, ramp_fraction: float, start: float, end: float) -> float:
    """Linear from ``start`` to ``end`` over the first ``ramp_fraction`` of the run, then constant."""
    return start + (end - start) * min(progress / max(ramp_fraction, 1e-9), 1.0)
