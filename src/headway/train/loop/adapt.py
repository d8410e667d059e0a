"""Change how a run goes on: processes, threads and steps that fit a machine on which other programs now run."""

from typing import NamedTuple

from headway.train.config import Plan
from headway.train.engine.timing import mean_over_run
from headway.train.engine.workers import Workers, select_workers, worker_options
from headway.train.log.events import Note
from headway.train.loop.context import TrainContext
from headway.train.loop.progress import TrainProgress

MEASURE_S = 2.0
"""Seconds for measurements in the middle of a run, without warm-up."""
MIN_SHORTENING = 0.9
"""Share of the planned steps from which on their number is left as it is."""


class Pause(NamedTuple):
    """Why the loop pauses before the last step; where neither is set, a change of the plan is due.

    Attributes:
        trouble: What happened, if the run has to go back to a checkpoint.
        slow_by: Times the measured duration that steps take.
    """

    trouble: str = ""
    slow_by: float = 0.0


def next_changes(plan: Plan, progress: TrainProgress) -> list[dict[str, int]]:
    """The changes to repeat after this step that have not been made."""
    return [change for change in plan.changes if change["step"] == progress.step and change not in progress.changes]


def adapted(context: TrainContext, progress: TrainProgress, slow_by: float) -> list[dict[str, int]]:
    """Measure again, and return the change with which the run goes on, if anything is better than what is."""
    engine, plan = context.engine, context.plan
    context.emit(
        Note(f"steps take {slow_by:.1f} times as long as measured; other programs use this machine. Measuring again")
    )
    now = Workers(plan.processes, plan.threads)
    options = worker_options(plan, engine.fabric.device, processes=0 if plan.adapt_workers == "processes" else 1)
    choice = select_workers(
        engine.train_module, context.images, plan, context.optim, options,
        time_limit_s=MEASURE_S, kept=now, steps=plan.steps - progress.step, fabric=engine.fabric,
    )  # fmt: skip
    then, steps = Workers(choice.plan.processes, choice.plan.threads), plan.steps
    if plan.adapt_steps:
        remaining_s = mean_over_run(engine.train_module, plan.phase_seconds) * steps - context.stopwatch.seconds()
        affordable = progress.step + int(remaining_s / choice.seconds_per_step)
        if affordable < MIN_SHORTENING * steps:
            steps = max(affordable, progress.step + 1)
    progress.phase_seconds = list(choice.plan.phase_seconds)
    instead = "which is best now" if then == now else f"instead of {now}"
    context.emit(Note(f"goes on with {then}, {instead}"))
    if steps != plan.steps:
        context.emit(Note(f"takes {steps:,} steps instead of {plan.steps:,}, so that the run ends in time"))
    if (then, steps) == (now, plan.steps):
        return []
    return [{"step": progress.step, "processes": then.processes, "threads": then.threads, "steps": steps}]
