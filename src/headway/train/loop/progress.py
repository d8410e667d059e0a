"""Progress of a run, and its rollback after trouble.

A step whose loss or gradient is NaN or infinite is skipped and counted. MAX_SKIPPED_STEPS of them in a row, or a
collapse under ``--on-collapse rollback``, return the run to its last healthy checkpoint, from before the first sign of
trouble, with LR_BACKOFF times the learning rate. After MAX_ROLLBACKS returns the run ends with an error.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any

from headway.errors import HeadwayError
from headway.metrics.collapse_detection import has_pending_sign
from headway.train.config import Plan

MAX_SKIPPED_STEPS = 10
"""Skipped steps in a row after which the run rolls back."""
MAX_ROLLBACKS = 3
"""Rollbacks after which the run ends with an error."""
LR_BACKOFF = 0.5
"""Factor on the learning rate at every rollback."""


@dataclass
class TrainProgress:
    """State of a run; part of every checkpoint."""

    step: int = 0
    """Optimizer steps taken, including skipped ones."""
    loss: float | None = None
    """The last mean that was logged."""
    grad_accum: int = 1
    """Micro-batches per step at present."""
    lr_factor: float = 1.0
    """Factor on the learning rate."""
    skipped_steps: int = 0
    """Steps skipped in all."""
    consecutive_skips: int = 0
    """Steps skipped since the last one that was taken."""
    rollbacks: int = 0
    """Rollbacks so far."""
    history: dict[str, float] = field(default_factory=dict)
    """Earlier metrics, for ``metrics.collapse_detection``."""
    collapse_reported: bool = False
    """Whether a collapse was reported; it is reported once."""
    changes: list[dict[str, int]] = field(default_factory=list)
    """Changes of the plan so far, as ``Plan.changes`` has them."""

    phase_seconds: list[float] = field(default_factory=list)
    """Seconds per step in each phase of the task as measured on the way; empty: not measured again."""

    def current(self, plan: Plan) -> Plan:
        """The plan with all changes so far."""
        changed: dict[str, Any] = {
            name: value for change in self.changes for name, value in change.items() if name != "step"
        }
        return replace(plan, **changed, phase_seconds=tuple(self.phase_seconds) or plan.phase_seconds)

    @property
    def healthy(self) -> bool:
        """Whether a rollback may return here: the last step was not skipped, and no metric shows a sign of collapse."""
        return not (self.consecutive_skips or has_pending_sign(self.history))

    def advance(self, finite: bool) -> str | None:
        """Count a step; returns a message where too many in a row were skipped."""
        self.step += 1
        self.skipped_steps += not finite
        self.consecutive_skips = 0 if finite else self.consecutive_skips + 1
        if self.consecutive_skips < MAX_SKIPPED_STEPS:
            return None
        return f"the loss or its gradient was not finite in {MAX_SKIPPED_STEPS} steps in a row"

    def after_rollback(self, earlier: "TrainProgress", trouble: str) -> "TrainProgress":
        """Progress at an earlier checkpoint, with a lower learning rate. Raises HeadwayError after MAX_ROLLBACKS."""
        if self.rollbacks >= MAX_ROLLBACKS:
            raise HeadwayError(
                "training-failed",
                f"{trouble}, and {MAX_ROLLBACKS} rollbacks with ever lower learning rates did not help; "
                "start a new run with a lower --recipe.optim.lr",
            )
        return replace(
            earlier, rollbacks=self.rollbacks + 1, lr_factor=self.lr_factor * LR_BACKOFF, consecutive_skips=0
        )

    @classmethod
    def from_state(cls, state: dict[str, Any], grad_accum: int) -> "TrainProgress":
        """Progress from the state in a checkpoint; ``grad_accum`` is the least that is requested now."""
        known = {field.name for field in fields(cls)}
        progress = cls(**{name: value for name, value in state.items() if name in known})
        progress.history = {
            name: value for name, value in progress.history.items() if value is not None
        }  # NaN, in JSON
        progress.grad_accum = max(progress.grad_accum, grad_accum)
        return progress
