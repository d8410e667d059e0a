"""Notice that steps take several times as long as was measured before the run."""

from collections.abc import Sequence

SLOW_RATIO = 3.0
"""Times the measured duration from which on steps count as slow."""
WINDOW_STEPS, WINDOW_S = 5, 3.0
"""Least steps, and least seconds, over which the duration is averaged: one step may be slow for any reason."""


class Pace:
    """Compares the duration of steps with what was measured.

    Args:
        milestones: Starts of the task's phases, as shares of the run.
        phase_seconds: Measured seconds per step in each; empty: nothing is ever slow.
    """

    def __init__(self, milestones: Sequence[float], phase_seconds: Sequence[float]):
        self.expected = list(zip(milestones, phase_seconds, strict=False))
        self.steps, self.seconds, self.planned_s = 0, 0.0, 0.0
        self.slow_by = 0.0

    def add(self, progress: float, seconds: float) -> None:
        """Count a step that was taken at this share of the run; ``slow_by`` is set once a window was slow."""
        if not self.expected:
            return
        self.steps += 1
        self.seconds += seconds
        self.planned_s += [expected for start, expected in self.expected if start <= progress][-1]
        if self.steps >= WINDOW_STEPS and self.seconds >= WINDOW_S:
            ratio = self.seconds / self.planned_s
            self.slow_by = ratio if ratio > SLOW_RATIO else 0.0
            self.steps, self.seconds, self.planned_s = 0, 0.0, 0.0
