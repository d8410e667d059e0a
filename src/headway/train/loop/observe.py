"""Observe a training: its metrics, its features, its probe; and react to a collapse."""

from headway.distributed import barrier, broadcast_object, rank
from headway.errors import HeadwayError
from headway.metrics.collapse_detection import detect_collapse
from headway.train.log.events import FeatureStats, Note, ProbeResult, StepMetrics
from headway.train.log.meters import AverageMeter
from headway.train.loop.checkpointing import unsharded_backbone
from headway.train.loop.context import TrainContext
from headway.train.loop.progress import TrainProgress


def log_metrics(context: TrainContext, progress: TrainProgress, meter: AverageMeter, lr: float) -> str | None:
    """Emit the means since the last log line; returns a message where they call for a rollback."""
    if not (metrics := meter.means()):  # every step was skipped
        return None
    progress.loss = metrics.pop("loss")
    images_per_second = context.plan.batch_size * context.stopwatch.per_second(meter.steps_read)
    counts = {"skipped_steps": float(progress.skipped_steps)} if progress.skipped_steps else {}
    means = (progress.loss, lr, images_per_second, metrics | counts)
    context.emit(StepMetrics(progress.step, context.plan.steps, context.epoch(progress.step), *means))
    return _check_collapse(context, progress, metrics)


def monitor_features(context: TrainContext, progress: TrainProgress) -> str | None:
    """Measure the features where it is due; returns a message where they call for a rollback."""
    plan, step = context.plan, progress.step
    due = plan.monitor_every and (step == plan.steps or is_due(step, plan.monitor_every))
    if not (context.observers.feature_monitor and due):
        return None
    with context.stopwatch.paused():
        backbone = unsharded_backbone(context.engine.train_module.backbone).to(context.engine.fabric.device)
        stats = broadcast_object(context.observers.feature_monitor(backbone) if rank() == 0 else None)
        context.emit(FeatureStats(step, stats))
        context.engine.train_module.train()
    return _check_collapse(context, progress, stats)


def run_probe(context: TrainContext, progress: TrainProgress) -> None:
    """Measure the probe where it is due."""
    plan, step = context.plan, progress.step
    due = step == plan.steps or (plan.probe_at_start if step == 0 else is_due(step, plan.probe_every))
    if not (context.observers.probe and due):
        return
    with context.stopwatch.paused():
        backbone = unsharded_backbone(context.engine.train_module.backbone).to(context.engine.fabric.device)
        if rank() == 0:
            context.emit(ProbeResult(step, "20-NN", context.observers.probe(backbone)))
        barrier()
        context.engine.train_module.train()


def is_due(step: int, every: int) -> bool:
    """Whether something that happens every so many steps (0: never) happens after this one."""
    return every > 0 and step % every == 0


def _check_collapse(context: TrainContext, progress: TrainProgress, metrics: dict[str, float]) -> str | None:
    """React to a collapse as the plan says. Every process decides alike, since their metrics are equal."""
    if (cause := detect_collapse(metrics, progress.history)) is None:
        return None
    trouble = f"the features collapse at step {progress.step}: {cause}"
    if context.plan.on_collapse == "stop":
        raise HeadwayError("training-failed", f"{trouble}; stopped, as --on-collapse stop asks")
    if context.plan.on_collapse == "rollback" and context.run:
        return trouble
    if not progress.collapse_reported:
        progress.collapse_reported = True
        context.emit(Note(trouble))
    return None
