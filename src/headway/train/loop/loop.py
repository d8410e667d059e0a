"""The training loop. Pretraining, fine-tuning and training from scratch all use it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headway.config import Optim
from headway.data.dataset.subset import Images
from headway.data.sampling.loader import Loader
from headway.distributed import barrier, broadcast_object, rank, world_size
from headway.errors import HeadwayError
from headway.metrics.collapse_detection import detect_collapse
from headway.protocol import Batch, TrainingClock, TrainModule
from headway.train.config import FitResult, Plan
from headway.train.engine.oom import halve_micro_batch
from headway.train.engine.optimizer import lr_at
from headway.train.engine.step import (
    Engine,
    StepResult,
    check_batch_size,
    is_batch_coupled,
    make_engine,
    micro_batch_count,
    train_step,
)
from headway.train.log.events import Event, FeatureStats, Note, ProbeResult, Sink, StepMetrics, emit, rewind_sinks
from headway.train.log.meters import AverageMeter, Stopwatch
from headway.train.loop.checkpointing import restore_checkpoint, save_checkpoint, unsharded_backbone
from headway.train.loop.progress import TrainProgress
from headway.train.loop.signals import Interrupted, graceful_shutdown

ProbeFunction = Callable[[nn.Module], float]
FeatureMonitor = Callable[[nn.Module], dict[str, float]]


class Observers(NamedTuple):
    """What observes a training. The probe and the feature monitor leave the backbone as it was.

    Attributes:
        sinks: Receive the events, on the first process only.
        probe: From a backbone to percent.
        feature_monitor: From a backbone to statistics of its features by name, which are checked for collapse.
    """

    sinks: Sequence[Sink] = ()
    probe: ProbeFunction | None = None
    feature_monitor: FeatureMonitor | None = None


NO_OBSERVERS = Observers()


class TrainContext(NamedTuple):
    """What a training uses from its first step to its last. What changes meanwhile is its ``TrainProgress``."""

    engine: Engine
    plan: Plan
    optim: Optim
    loader: Loader
    stop_step: int
    run: Path | None
    emit: Callable[[Event], None]
    observers: Observers
    stopwatch: Stopwatch


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
    loader = Loader(
        images, seed=plan.seed, batch_size=plan.batch_size, rank=rank(), world_size=world_size(),
        start_position=plan.start_position,
    )  # fmt: skip
    stop_step = min(plan.steps, stop_after or plan.steps)
    context = TrainContext(
        engine, plan, optim, loader, stop_step, run, partial(emit, observers.sinks), observers, Stopwatch()
    )
    with context.stopwatch.paused():
        progress = restore_checkpoint(engine, run, plan, context.emit) if resume and run else None
        if progress is None:
            progress = TrainProgress(grad_accum=plan.grad_accum)
            if run:  # so that a rollback always finds a checkpoint
                save_checkpoint(engine, run, plan, progress)
    start_step = progress.step
    with graceful_shutdown(run is not None) as stop_signal:
        rewind_sinks(observers.sinks, start_step)
        while trouble := _train_until_trouble(context, progress, stop_signal):
            progress = _rollback(context, progress, trouble)
            rewind_sinks(observers.sinks, progress.step)
    seconds = context.stopwatch.seconds()
    images_per_second = plan.batch_size * max(stop_step - start_step, 0) / max(seconds, 1e-9)
    loss = float("nan") if progress.loss is None else progress.loss
    grad_accum = micro_batch_count(plan.batch_size, progress.grad_accum)
    return FitResult(stop_step, seconds, loss, images_per_second, progress.skipped_steps, grad_accum)


def _train_until_trouble(context: TrainContext, progress: TrainProgress, stop_signal: Callable[[], int]) -> str | None:
    """Train to the last step. Returns a message as soon as there is trouble that calls for a rollback."""
    plan, run, meter = context.plan, context.run, AverageMeter()
    if progress.step == 0:
        _monitor_features(context, progress)
    _run_probe(context, progress)  # an interrupted run may have been saved without the probe of its last step
    for batch, positions in context.loader.batches(progress.step, context.stop_step):
        optim = replace(context.optim, lr=context.optim.lr * progress.lr_factor)
        clock = TrainingClock(progress.step, plan.steps, _epoch(context, progress))
        on_device = [tensor.to(context.engine.fabric.device, non_blocking=True) for tensor in (*batch, positions)]
        result = _train_step_in_memory(context, progress, optim, Batch(*on_device[:2]), on_device[2], clock)
        if result.finite:
            meter.add(result.metric_shares)
        trouble = progress.advance(result.finite)
        last = progress.step == context.stop_step
        if last or _is_due(progress.step, plan.log_every):
            trouble = trouble or _log_metrics(context, progress, meter, lr_at(optim, plan.batch_size, clock))
        trouble = trouble or _monitor_features(context, progress)
        if trouble:
            return trouble
        ask = world_size() == 1 or _is_due(progress.step, plan.log_every)  # a collective at each step would cost time
        signal_number = stop_signal() if ask and not last else 0
        save_is_due = _is_due(progress.step, plan.save_every) and not progress.consecutive_skips
        if run and (last or signal_number or save_is_due):
            save_checkpoint(context.engine, run, plan, progress)
        _run_probe(context, progress)  # after the checkpoint, so that a probe that fails loses nothing
        if signal_number:
            raise Interrupted(f"saved in {run} after step {progress.step} of {plan.steps}", signal_number)
    return None


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


def _log_metrics(context: TrainContext, progress: TrainProgress, meter: AverageMeter, lr: float) -> str | None:
    """Emit the means since the last log line; returns a message where they call for a rollback."""
    if not (metrics := meter.means()):  # every step was skipped
        return None
    progress.loss = metrics.pop("loss")
    images_per_second = context.plan.batch_size * context.stopwatch.per_second(meter.steps_read)
    counts = {"skipped_steps": float(progress.skipped_steps)} if progress.skipped_steps else {}
    means = (progress.loss, lr, images_per_second, metrics | counts)
    context.emit(StepMetrics(progress.step, context.plan.steps, _epoch(context, progress), *means))
    return _check_collapse(context, progress, metrics)


def _monitor_features(context: TrainContext, progress: TrainProgress) -> str | None:
    """Measure the features where it is due; returns a message where they call for a rollback."""
    plan, step = context.plan, progress.step
    due = plan.monitor_every and (step == plan.steps or _is_due(step, plan.monitor_every))
    if not (context.observers.feature_monitor and due):
        return None
    with context.stopwatch.paused():
        backbone = unsharded_backbone(context.engine.train_module.backbone).to(context.engine.fabric.device)
        stats = broadcast_object(context.observers.feature_monitor(backbone) if rank() == 0 else None)
        context.emit(FeatureStats(step, stats))
        context.engine.train_module.train()
    return _check_collapse(context, progress, stats)


def _run_probe(context: TrainContext, progress: TrainProgress) -> None:
    """Measure the probe where it is due."""
    plan, step = context.plan, progress.step
    due = step == plan.steps or (plan.probe_at_start if step == 0 else _is_due(step, plan.probe_every))
    if not (context.observers.probe and due):
        return
    with context.stopwatch.paused():
        backbone = unsharded_backbone(context.engine.train_module.backbone).to(context.engine.fabric.device)
        if rank() == 0:
            context.emit(ProbeResult(step, "20-NN", context.observers.probe(backbone)))
        barrier()
        context.engine.train_module.train()


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _check_collapse(context: TrainContext, progress: TrainProgress, metrics: dict[str, float]) -> str | None:
    """React to a collapse as the plan says. Every process decides alike, since their metrics are equal."""
    if (cause := detect_collapse(metrics, progress.history)) is None:
        return None
    trouble = f"the features collapse at step {progress.step}: {cause}"
    if context.plan.on_collapse == "stop":
        raise HeadwayError(f"{trouble}; stopped, as --on-collapse stop asks")
    if context.plan.on_collapse == "rollback" and context.run:
        return trouble
    if not progress.collapse_reported:
        progress.collapse_reported = True
        context.emit(Note(trouble))
    return None


def _rollback(context: TrainContext, progress: TrainProgress, trouble: str) -> TrainProgress:
    """Restore the last healthy checkpoint, with a lower learning rate. Raises HeadwayError where there is none."""
    engine, run, plan = context.engine, context.run, context.plan
    earlier = restore_checkpoint(engine, run, plan, context.emit, healthy_only=True) if run else None
    if earlier is None:
        advice = f"try a lower learning rate (recipe.optim.lr is {context.optim.lr:g})"
        raise HeadwayError(f"{trouble}, up to step {progress.step}; {advice}")
    back = progress.after_rollback(earlier, trouble)
    context.emit(Note(f"{trouble}; back to step {back.step}, at {back.lr_factor:g} times the learning rate"))
    return back


def _epoch(context: TrainContext, progress: TrainProgress) -> float:
    return (context.plan.start_position + progress.step * context.plan.batch_size) / len(context.loader.images)
