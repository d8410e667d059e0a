"""Schedules: pure functions of the share of a run that is over. No object steps, so nothing needs to be saved."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headway.protocol import Clock


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


def teacher_momentum(clock: "Clock", start: float, end: float = 1.0, memory: float = 1 / 40) -> float:
    """Momentum of a slow average of weights: from ``start`` to ``end`` by half a cosine.

    A teacher that remembers longer than the run lasts would stay what it was born: in short runs the start is lowered,
    so that the average reaches back over ``memory`` of the run at most, and over one step at least.

    Args:
        clock: Where the run is.
        start: In [0, 1], as papers give it for runs of 100,000 steps and more.
        end: In [0, 1].
        memory: Share of the run.
    """
    return cosine(clock.progress, min(start, 1 - 1 / max(clock.total * memory, 1.0)), end)


def ramp(progress: float, warmup: float, start: float, end: float) -> float:
    """A straight line from ``start`` to ``end`` over the first ``warmup`` share of the run; then it stays."""
    return start + (end - start) * min(progress / max(warmup, 1e-9), 1.0)
