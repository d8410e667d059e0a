"""Schedules: pure functions of the share of a run that is over. No object steps, so nothing needs to be saved."""

import math


def cosine(progress: float, start: float, end: float) -> float:
    """Half a cosine from ``start`` (progress 0) to ``end`` (progress 1)."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


def warmup_cosine(progress: float, warmup: float, final: float = 0.0) -> float:
    """A factor that rises linearly from 0 to 1 over the first ``warmup`` share of the run, then falls to ``final``.

    Loshchilov and Hutter, "SGDR", 2017 (https://arxiv.org/abs/1608.03983); warm-up as in Goyal et al., "Accurate, large
    minibatch SGD", 2017 (https://arxiv.org/abs/1706.02677).

    Args:
        progress: Share of the run that is over, in [0, 1].
        warmup: Share of the run that the rise takes, in [0, 1).
        final: The factor at the end.
    """
    if progress < warmup:
        return progress / warmup
    return cosine((progress - warmup) / (1.0 - warmup), 1.0, final)


def ramp(progress: float, warmup: float, start: float, end: float) -> float:
    """A straight line from ``start`` to ``end`` over the first ``warmup`` share of the run; then it stays."""
    return start + (end - start) * min(progress / max(warmup, 1e-9), 1.0)
