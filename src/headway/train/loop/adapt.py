"""Change how a run goes on: processes, threads and steps that fit a machine on which other programs now run."""

from typing import NamedTuple

from headway.distributed import broadcast_object
from headway.train.config import Plan
from headway.train.engine.workers import WorkerChoice, Workers, select_workers, worker_options
from headway.train.log.events import Note
from headway.train.loop.context import TrainContext
from headway.train.loop.pace import Pace, phases_of, seconds_left
from headway.train.loop.progress import TrainProgress

MEASURE_S = 2.0
"""Seconds for measurements in the middle of a run, without warm-up."""
MIN_SHORTENING = 0.95
"""Share of the planned steps from which on their number is left as it is."""


class Pause(NamedTuple):
    """Why the loop pauses before the last step; where nothing is set, a change of the plan is due.

    Attributes:
        trouble: What happened, if the run has to go back to a checkpoint.
        slow_by: Times the measured duration that steps take now, if they are slow.
        late_by: Times the measured duration that steps have taken, if the run would end too late.
    """

    trouble: str = ""
    slow_by: float = 0.0
    late_by: float = 0.0


def slow_or_late(context: TrainContext, progress: TrainProgress, pace: Pace) -> Pause | None:
    """Whether the run should go on in another way; every process decides alike."""
    plan = context.plan
    if plan.adapt_workers == "never":
        return None
    late_by = 0.0
    if plan.adapt_steps:
        share, elapsed_s = progress.step / plan.steps, context.stopwatch.seconds()
        late_by = pace.late_by(share, plan.steps, elapsed_s, context.planned_s)
    slow_by, late_by = broadcast_object([pace.slow_by, late_by])
    return Pause(slow_by=slow_by, late_by=late_by) if slow_by or late_by else None


def next_changes(plan: Plan, progress: TrainProgress) -> list[dict[str, int]]:
    """The changes to repeat after this step that have not been made."""
    return [change for change in plan.changes if change["step"] == progress.step and change not in progress.changes]


def adapted(context: TrainContext, progress: TrainProgress, pause: Pause) -> list[dict[str, int]]:
    """Measure again where steps are slow, and return the change with which the run goes on, if there is any."""
    plan = context.plan
    now = then = Workers(plan.processes, plan.threads)
    if pause.slow_by:
        choice = _measure_again(context, progress, pause.slow_by)
        then = Workers(choice.plan.processes, choice.plan.threads)
        phase_seconds = choice.plan.phase_seconds
        instead = "which is best now" if then == now else f"instead of {now}"
        context.emit(Note(f"goes on with {then}, {instead}"))
    else:
        phase_seconds = tuple(pause.late_by * seconds for seconds in plan.phase_seconds)
    progress.phase_seconds = list(phase_seconds)
    steps = _affordable_steps(context, progress, phase_seconds) if plan.adapt_steps else plan.steps
    if steps != plan.steps:
        context.emit(Note(f"takes {steps:,} steps instead of {plan.steps:,}, so that the run ends in time"))
    if (then, steps) == (now, plan.steps):
        return []
    return [{"step": progress.step, "processes": then.processes, "threads": then.threads, "steps": steps}]


def _measure_again(context: TrainContext, progress: TrainProgress, slow_by: float) -> WorkerChoice:
    """The workers that are fastest at the moment."""
    engine, plan = context.engine, context.plan
    context.emit(
        Note(f"steps take {slow_by:.1f} times as long as measured; other programs use this machine. Measuring again")
    )
    return select_workers(
        engine.train_module, context.images, plan, context.optim,
        worker_options(plan, engine.fabric.device, processes=0 if plan.adapt_workers == "processes" else 1),
        time_limit_s=MEASURE_S, kept=Workers(plan.processes, plan.threads), steps=plan.steps - progress.step,
        fabric=engine.fabric,
    )  # fmt: skip


def _affordable_steps(context: TrainContext, progress: TrainProgress, phase_seconds: tuple[float, ...]) -> int:
    """Steps of the whole run that fit into the time that was planned; the plan's, where nearly all of them do."""
    step, steps = progress.step, context.plan.steps
    phases = phases_of(context.engine.train_module.task.cost_milestones, phase_seconds)
    share = (context.planned_s - context.stopwatch.seconds()) / seconds_left(phases, step / steps, steps)
    affordable = step + max(int(share * (steps - step)), 1)
    return affordable if affordable < MIN_SHORTENING * steps else steps
