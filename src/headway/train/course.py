"""How far a run has come and what it went through, and what becomes of a run in trouble.

A step whose loss or gradient is no number is skipped and counted. ``PATIENCE`` of them in a row, or a collapse where
that was asked for, sends the run back to its last good checkpoint, from before the first sign of trouble, with ``EASE``
times the learning rate; after ``SETBACKS`` returns it gives up.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any

from headway.errors import HeadwayError
from headway.measure.symptoms import pending

PATIENCE = 10
"""Skipped steps in a row before the run goes back."""
SETBACKS = 3
"""How often a run goes back before it gives up."""
EASE = 0.5
"""Factor on the learning rate at every return."""


@dataclass
class Course:
    """Where a run stands; goes into every checkpoint."""

    step: int = 0
    """Optimiser steps behind it, skipped ones included."""
    loss: float | None = None
    """The last mean that was logged."""
    accumulate: int = 1
    """Micro-batches a step by now."""
    rate: float = 1.0
    """Factor on the learning rate."""
    skipped: int = 0
    """Steps skipped in all."""
    skipped_in_row: int = 0
    """Steps skipped since the last whole one."""
    setbacks: int = 0
    """How often the run has gone back."""
    memory: dict[str, float] = field(default_factory=dict)
    """Of readings before, for ``measure.symptoms``."""
    collapsed: bool = False
    """Whether a collapse was told of: once is enough."""

    @property
    def sound(self) -> bool:
        """Whether it is good to come back to: no step was skipped just now, and no reading shows a sign of collapse."""
        return not (self.skipped_in_row or pending(self.memory))

    def advance(self, whole: bool) -> str | None:
        """Count a step; gives the trouble where too many in a row were skipped."""
        self.step += 1
        self.skipped += not whole
        self.skipped_in_row = 0 if whole else self.skipped_in_row + 1
        if self.skipped_in_row < PATIENCE:
            return None
        return f"the loss or its gradient was no number in {PATIENCE} steps in a row"

    def after_setback(self, earlier: "Course", trouble: str) -> "Course":
        """The course from a checkpoint on: as it was then, at a lower rate. Raises HeadwayError when it is enough."""
        if self.setbacks >= SETBACKS:
            raise HeadwayError(
                f"{trouble}, and {SETBACKS} returns to a checkpoint with ever lower rates did not help; "
                "begin anew with a lower --recipe.optim.lr"
            )
        return replace(earlier, setbacks=self.setbacks + 1, rate=self.rate * EASE, skipped_in_row=0)

    @classmethod
    def of(cls, state: dict[str, Any], accumulate: int) -> "Course":
        """From what a checkpoint holds; ``accumulate`` is the least that is asked for now."""
        known = {field.name for field in fields(cls)}
        course = cls(**{name: value for name, value in state.items() if name in known})
        course.memory = {name: value for name, value in course.memory.items() if value is not None}  # NaN, in JSON
        course.accumulate = max(course.accumulate, accumulate)
        return course
