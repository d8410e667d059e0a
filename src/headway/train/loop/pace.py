"""Notice that steps take longer than was measured before the run."""

from collections.abc import Sequence

SLOW_RATIO = 3.0
"""Times the measured duration from which on steps count as slow."""
WINDOW_STEPS, WINDOW_S = 5, 3.0
"""Least steps, and least seconds, over which the duration is averaged: one step may be slow for any reason."""
LATE_RATIO, MIN_LATE_S = 1.15, 5.0
"""Times its planned duration from which on a run would end too late (a little more or less changes no run, so that the
same command gives the same bits); the least seconds of steps from which that is concluded."""


class Pace:
    """Compares the duration of steps with what was measured.

    Args:
        milestones: Starts of the task's phases, as shares of the run.
        phase_seconds: Measured seconds per step in each; empty: nothing is ever slow or late.

    Attributes:
        slow_by: Times the measured duration that steps took lately, where they are slow; else 0.
    """

    def __init__(self, milestones: Sequence[float], phase_seconds: Sequence[float]):
        self.phases = phases_of(milestones, phase_seconds)
        self.steps, self.seconds, self.planned_s = 0, 0.0, 0.0  # of the window
        self.all_seconds, self.all_planned_s = 0.0, 0.0
        self.slow_by = 0.0

    def add(self, progress: float, seconds: float) -> None:
        """Count a step that was taken at this share of the run."""
        if not self.phases:
            return
        planned_s = [expected for start, _, expected in self.phases if start <= progress][-1]
        self.steps += 1
        self.seconds += seconds
        self.planned_s += planned_s
        self.all_seconds += seconds
        self.all_planned_s += planned_s
        if self.steps >= WINDOW_STEPS and self.seconds >= WINDOW_S:
            ratio = self.seconds / self.planned_s
            self.slow_by = ratio if ratio > SLOW_RATIO else 0.0
            self.steps, self.seconds, self.planned_s = 0, 0.0, 0.0

    def late_by(self, progress: float, steps: int, elapsed_s: float, planned_s: float) -> float:
        """Times the measured duration that steps have taken, if at this pace the run ends too late; else 0.

        Args:
            progress: Share of the run that is done.
            steps: Of the whole run.
            elapsed_s: Seconds that the run has taken.
            planned_s: Seconds that it was to take.
        """
        if self.all_seconds < MIN_LATE_S:
            return 0.0
        ratio = self.all_seconds / self.all_planned_s
        end_s = elapsed_s + ratio * seconds_left(self.phases, progress, steps)
        return ratio if end_s > LATE_RATIO * planned_s else 0.0


def phases_of(milestones: Sequence[float], phase_seconds: Sequence[float]) -> list[tuple[float, float, float]]:
    """Start, end and seconds per step of each phase of a run; empty where they were not measured."""
    return list(zip(milestones, (*milestones[1:], 1.0), phase_seconds, strict=True)) if phase_seconds else []


def seconds_left(phases: Sequence[tuple[float, float, float]], progress: float, steps: int) -> float:
    """Seconds that the rest of a run takes, if steps take what was measured.

    Args:
        phases: From ``phases_of``.
        progress: Share of the run that is done.
        steps: Of the whole run.
    """
    return sum(steps * max(end - max(start, progress), 0.0) * seconds for start, end, seconds in phases)
