"""The training loop. Pretraining, fine-tuning and training from scratch all use it."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headway.config import Optim
from headway.data.dataset.subset import Images
from headway.data.sampling.loader import Loader
from headway.distributed import rank, world_size
from headway.errors import HeadwayError
from headway.protocol import Batch, TrainingClock, TrainModule
from headway.train.config import FitResult, Plan
from headway.train.engine.oom import halve_micro_batch
from headway.train.engine.optimizer import lr_at
from headway.train.engine.step import (
    StepResult,
    check_batch_size,
    is_batch_coupled,
    make_engine,
    micro_batch_count,
    train_step,
)
from headway.train.log.events import Note, emit, rewind_sinks
from headway.train.log.meters import AverageMeter, Stopwatch
from headway.train.loop.adapt import Pause, adapted, next_changes, slow_or_late
from headway.train.loop.checkpointing import restore_checkpoint, save_checkpoint
from headway.train.loop.context import NO_OBSERVERS, Observers, TrainContext
from headway.train.loop.observe import is_due, log_metrics, monitor_features, run_probe
from headway.train.loop.pace import Pace, phases_of, seconds_left
from headway.train.loop.progress import TrainProgress
from headway.train.loop.signals import Interrupted, graceful_shutdown
from headway.utils.threads import torch_threads
from headway.worker_team import worker_team


def fit(
    train_module: TrainModule,
    images: Images,
    plan: Plan,
    optim: Optim,
    *,
    run: Path | None = None,
    resume: bool = False,
    observers: Observers = NO_OBSERVERS,
    fabric: Any = None,
    stop_after: int | None = None,
) -> FitResult:
    """Train a module on images, in place.

    Args:
        train_module: Backbone and task.
        images: N C H W, the stored images (uint8, or float32 in [0, 1]).
        plan: How the training is carried out.
        optim: The optimizer's settings.
        run: The run folder for checkpoints; None: nothing is written.
        resume: Continue from the last valid checkpoint in ``run``; start where there is none.
        observers: Sinks of the events, probe and feature monitor; the plan says when the latter are due.
        fabric: A launched Fabric; None: a new one.
        stop_after: Stop after this step with a checkpoint, as an interrupted run would.

    Raises:
        HeadwayError: A batch size that the task does not allow, trouble that persists, too little memory, or a
            checkpoint that cannot be written.
        Interrupted: After SIGTERM or Ctrl-C, once the run is saved; without ``run`` signals have their usual effect.
    """
    check_batch_size(train_module, plan.batch_size, micro_batch_count(plan.batch_size, plan.grad_accum))
    engine = make_engine(train_module, optim, plan, fabric)
    context = TrainContext(
        engine, images, plan, optim, stop_after, run, partial(emit, observers.sinks), observers, Stopwatch()
    )
    with context.stopwatch.paused():
        progress = restore_checkpoint(engine, run, plan, context.emit) if resume and run else None
        if progress is None:
            progress = TrainProgress(grad_accum=plan.grad_accum)
            if run:  # so that a rollback always finds a checkpoint
                save_checkpoint(engine, run, plan, progress)
    start_step, now = progress.step, progress.current(plan)
    phases = phases_of(train_module.task.cost_milestones, now.phase_seconds)
    planned_s = seconds_left(phases, start_step / now.steps, now.steps) or math.inf
    context = context._replace(plan=now, planned_s=planned_s)
    with graceful_shutdown(run is not None) as stop_signal:
        rewind_sinks(observers.sinks, start_step)
        _observe_start(context, progress)
        while True:
            progress.changes.extend(next_changes(plan, progress))
            context = context._replace(plan=progress.current(plan))
            with worker_team(context.plan.processes), torch_threads(context.plan.threads):
                pause = _train_until_pause(context, progress, stop_signal)
            if pause is None:
                break
            if pause.trouble:
                progress = _rollback(context, progress, pause.trouble)
                rewind_sinks(observers.sinks, progress.step)
                _observe_start(context, progress)
            elif pause.slow_by or pause.late_by:
                progress.changes.extend(adapted(context, progress, pause))
    seconds = context.stopwatch.seconds()
    images_per_second = plan.batch_size * max(context.stop_step - start_step, 0) / max(seconds, 1e-9)
    loss = float("nan") if progress.loss is None else progress.loss
    grad_accum = micro_batch_count(plan.batch_size, progress.grad_accum)
    return FitResult(
        context.stop_step, seconds, loss, images_per_second, progress.skipped_steps, grad_accum, tuple(progress.changes)
    )


def _train_until_pause(context: TrainContext, progress: TrainProgress, stop_signal: Callable[[], int]) -> Pause | None:
    """Train to the last step. Returns earlier where the run goes back to a checkpoint, or goes on in another way."""
    plan, run, meter = context.plan, context.run, AverageMeter()
    loader = Loader(
        context.images, seed=plan.seed, batch_size=plan.batch_size, rank=rank(), world_size=world_size(),
        start_position=plan.start_position,
    )  # fmt: skip
    pace = Pace(context.engine.train_module.task.cost_milestones, plan.phase_seconds)
    began = time.perf_counter()
    for batch, positions in loader.batches(progress.step, context.stop_step):
        optim = replace(context.optim, lr=context.optim.lr * progress.lr_factor)
        clock = TrainingClock(progress.step, plan.steps, context.epoch(progress.step))
        on_device = [tensor.to(context.engine.fabric.device, non_blocking=True) for tensor in (*batch, positions)]
        result = _train_step_in_memory(context, progress, optim, Batch(*on_device[:2]), on_device[2], clock)
        pace.add(clock.progress, time.perf_counter() - began)
        if result.finite:
            meter.add(result.metric_shares)
        trouble = progress.advance(result.finite)
        last, due = progress.step == context.stop_step, is_due(progress.step, plan.log_every)
        if last or due:
            trouble = trouble or log_metrics(context, progress, meter, lr_at(optim, plan.batch_size, clock))
        trouble = trouble or monitor_features(context, progress)
        if trouble:
            return Pause(trouble=trouble)
        ask = world_size() == 1 or due  # a collective at each step would cost time
        signal_number = stop_signal() if ask and not last else 0
        save_is_due = is_due(progress.step, plan.save_every) and not progress.consecutive_skips
        if run and (last or signal_number or save_is_due):
            save_checkpoint(context.engine, run, plan, progress)
        run_probe(context, progress)  # after the checkpoint, so that a probe that fails loses nothing
        if signal_number:
            raise Interrupted(f"saved in {run} after step {progress.step} of {plan.steps}", signal_number)
        if last:
            break
        if next_changes(plan, progress):
            return Pause()
        if due and (pause := slow_or_late(context, progress, pace)):
            return pause
        began = time.perf_counter()
    return None


def _observe_start(context: TrainContext, progress: TrainProgress) -> None:
    """Observe the weights from which the run starts or goes on."""
    if progress.step == 0:
        monitor_features(context, progress)
    run_probe(context, progress)  # an interrupted run may have been saved without the probe of its last step


def _train_step_in_memory(
    context: TrainContext, progress: TrainProgress, optim: Optim, batch: Batch, positions: Tensor, clock: TrainingClock
) -> StepResult:
    """Take a step, in ever smaller micro-batches while memory runs out and splitting the batch changes nothing."""
    while True:
        plan = replace(context.plan, grad_accum=micro_batch_count(context.plan.batch_size, progress.grad_accum))
        try:
            return train_step(context.engine, optim, plan, batch, positions, clock)
        except torch.OutOfMemoryError as error:
            smaller = halve_micro_batch(plan, is_batch_coupled(context.engine.train_module), error)
        context.engine.optimizer.zero_grad(set_to_none=True)
        progress.grad_accum = smaller.grad_accum
        context.emit(Note(f"out of memory: a step is now split into {progress.grad_accum} micro-batches"))


def _rollback(context: TrainContext, progress: TrainProgress, trouble: str) -> TrainProgress:
    """Restore the last healthy checkpoint, with a lower learning rate. Raises HeadwayError where there is none."""
    engine, run, plan = context.engine, context.run, context.plan
    earlier = restore_checkpoint(engine, run, plan, context.emit, healthy_only=True) if run else None
    if earlier is None:
        advice = f"try a lower learning rate (recipe.optim.lr is {context.optim.lr:g})"
        raise HeadwayError("training-failed", f"{trouble}, up to step {progress.step}; {advice}")
    back = progress.after_rollback(earlier, trouble)
    context.emit(Note(f"{trouble}; back to step {back.step}, at {back.lr_factor:g} times the learning rate"))
    return back
