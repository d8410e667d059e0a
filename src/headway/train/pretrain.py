"""One pretraining in six phases: prepare data, build the module, plan, open the run folder, fit, finish."""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from headway.backbones.input_size import choose_view_size
from headway.backbones.weights import WEIGHTS_FILE, load_backbone, save_backbone
from headway.data.dataset.image_store import median_short_side
from headway.data.dataset.sample_stats import get_sample_stats
from headway.data.dataset.subset import subsample_evenly
from headway.data.sources.base import Source
from headway.distributed import barrier, broadcast_object, rank
from headway.protocol import TrainModule
from headway.train.config import FitResult, Plan, PretrainConfig
from headway.train.engine.fabric import make_fabric
from headway.train.engine.step import check_batch_size
from headway.train.engine.workers import worker_options
from headway.train.init.initial_weights import initial_seen_images, initial_view_size
from headway.train.init.load_images import check_same_images, load_images
from headway.train.init.parent_run import load_matching_weights
from headway.train.init.train_module import build_train_module
from headway.train.log.dashboards import closing_loggers, open_loggers
from headway.train.log.events import JsonlSink, Note, Sink
from headway.train.loop.checkpointing import unsharded_backbone
from headway.train.loop.context import Observers
from headway.train.loop.feature_monitor import MONITOR_IMAGES, make_feature_monitor
from headway.train.loop.loop import fit
from headway.train.loop.signals import detect_lost_process
from headway.train.plan.make_plan import PlanRequest, make_plan, plan_summary
from headway.train.run_context import DEFAULT_OPTIONS, PreparedData, PretrainContext, RunFolder, RunOptions, read_parent
from headway.train.run_dir.best_weights import BestWeights
from headway.train.run_dir.checkpoint import latest_step
from headway.train.run_dir.record import (
    RECORD_FILE,
    new_record,
    plan_of,
    record_with_changes,
    reproduction_differences,
    resumed_record,
)
from headway.train.run_dir.resume import DECODE_CACHE, is_finished, record_to_resume, recorded_result
from headway.train.run_dir.seen_images import write_seen_images
from headway.utils.files import remove_stale_temps, write_json
from headway.utils.locks import run_lock


def run_pretraining(
    config: PretrainConfig,
    source: Source,
    out: Path,
    *,
    resume: bool = False,
    options: RunOptions = DEFAULT_OPTIONS,
    sinks: Sequence[Sink] = (),
    decode_progress: Callable[[int, int], None] | None = None,
    notify: Callable[[str], None] = lambda text: None,
    fabric: Any = None,
) -> dict[str, Any]:
    """Pretrain a backbone and leave a run folder.

    Args:
        config: What is requested.
        source: The images.
        out: The run folder; it must not exist unless ``resume``.
        resume: Continue from the last valid checkpoint there, or start where there is none; a finished run stays as it
            is, and its recorded result is returned.
        options: How the run is observed and carried out.
        sinks: Receive the events, besides ``log.jsonl``.
        decode_progress: Called with the number of decoded images and the number of all.
        notify: Receives messages for the user, most of them before the training starts.
        fabric: A Fabric that was launched with the same ``fsdp``; None: a new one.

    Returns:
        run, task, steps, seconds, images_per_second, loss; skipped_steps, where there were any; probe, where the
        initial weights were not random.

    Raises:
        HeadwayError: An error that the user can correct, before anything is overwritten.
        Interrupted: After SIGTERM or Ctrl-C, once the run is saved.
    """
    start_time = time.perf_counter() if options.start_time is None else options.start_time
    fabric = fabric or make_fabric(fsdp=options.fsdp)  # from here on each process knows its rank
    with run_lock(out) if rank() == 0 else nullcontext():
        record = broadcast_object(record_to_resume(config, out, resume))
        if record and broadcast_object(is_finished(record, out)):
            store = load_images(config, source, record["size"], None, decode_progress)
            check_same_images(store, fabric.device, record, out)
            if rank() == 0:
                notify(f"{out} is finished, and stays as it is")
            return recorded_result(record)
        step = broadcast_object(latest_step(out) if record and rank() == 0 else None)
        parent = read_parent(config, out, record is not None, step is not None)
        context = PretrainContext(
            config, source, out, options, fabric, start_time, sinks, decode_progress, notify, record, step, parent
        )
        data = prepare_data(context)
        train_module, batch_size = build_module(context, data)
        plan, measurements = plan_run(context, data, train_module, batch_size)
        folder = open_run_folder(context, data, train_module, plan, measurements)
        with detect_lost_process(out), closing_loggers(folder.dashboards):
            result, best = fit_module(context, data, train_module, plan, folder)
            return finish(context, train_module, folder, result, best)


def prepare_data(context: PretrainContext) -> PreparedData:
    """Choose the view, decode the images, and check that every process has those of the reference run."""
    config, source = context.config, context.source
    view_size, patch = initial_view_size(config, context.parent), 0
    if not view_size:
        view_size, patch = choose_view_size(
            median_short_side(source)[0], size=config.size, patch=config.patch, backbone=config.backbone
        )
    store = load_images(config, source, view_size, context.out / DECODE_CACHE, context.decode_progress)
    if note := get_sample_stats(source).note:
        context.notes.append(note)
    check_same_images(store, context.fabric.device, context.reference, context.out if context.record else None)
    return PreparedData(store, view_size, patch, initial_seen_images(config, context.parent))


def build_module(context: PretrainContext, data: PreparedData) -> tuple[TrainModule, int]:
    """Build backbone and task, with the weights of the run that is continued; returns them and the batch size."""
    config, store, parent = context.config, data.store, context.parent
    train_module = build_train_module(config, store, data.view_size, data.patch, parent)
    batch_size = min(config.recipe.batch_size, len(store.images))
    check_batch_size(train_module, batch_size, config.grad_accum)
    context.notes.extend(f"skipped {name}: {reason}" for name, reason in store.skipped)
    if batch_size < config.recipe.batch_size:
        context.notes.append(f"batch size {batch_size} instead of {config.recipe.batch_size}: there are no more images")
    if config.init and context.options.probe is None:
        context.notes.append(
            "whether these weights improve is not measured without --probe LABELED; "
            "RankMe of their features is logged from the start on"
        )
    if parent and context.resumed_step is None:
        fresh = load_matching_weights(train_module, parent)
        rest = f"; {len(fresh)} tensors of the task are initialized anew ({fresh[0]} among them)" if fresh else ""
        context.notes.append(f"continues {parent.folder} with a new warm-up and a new cosine schedule{rest}")
    return train_module, batch_size


def plan_run(
    context: PretrainContext, data: PreparedData, train_module: TrainModule, batch_size: int
) -> tuple[Plan, dict[str, Any]]:
    """Take the plan of the reference run, or make one; returns the plan and its measurements."""
    config, options, images = context.config, context.options, data.store.images
    if context.reference:
        plan, measurements = plan_of(context.reference), context.reference["measurements"]
    else:
        plan, measurements = make_plan(
            PlanRequest(
                config, images, train_module, batch_size, context.start_time, context.notify, options.fsdp,
                context.fabric, options.auto_processes,
            )
        )  # fmt: skip
        plan = replace(plan, start_position=context.parent.start_position_for(data.store) if context.parent else 0)
        context.notes.append(plan_summary(plan, len(images), measurements["seconds_per_step"]))
    plan = replace(  # a resumed run may set these anew
        plan, grad_accum=max(plan.grad_accum, config.grad_accum), on_collapse=config.on_collapse, fsdp=options.fsdp,
        activation_checkpointing=config.activation_checkpointing, probe_every=options.probe_every,
        probe_at_start=bool(options.probe and (config.init or config.continue_from)),
        save_every=options.save_every or plan.save_every,
        adapt_workers="never" if options.reproduce or config.processes or config.threads else plan.adapt_workers,
    )  # fmt: skip
    if context.record and (config.processes or config.threads):
        workers = worker_options(plan, context.fabric.device, config.processes, config.threads)[0]
        step = context.resumed_step or 0
        earlier = (change for change in plan.changes if change["step"] <= step)
        plan = replace(plan, changes=(*earlier, {"step": step, **workers._asdict()}))
    if options.reproduce and (differences := reproduction_differences(options.reproduce, plan)):
        context.notes.append(f"the last bits may differ from those of the reproduced run: {'; '.join(differences)}")
    return plan, measurements


def open_run_folder(
    context: PretrainContext, data: PreparedData, train_module: TrainModule, plan: Plan, measurements: dict[str, Any]
) -> RunFolder:
    """Write the record, the hashes of all images seen and the notes, and open the logs."""
    out, store = context.out, data.store
    record = context.record or new_record(context.config, store, train_module, plan, measurements, data.view_size)
    if context.record and context.record.get("status") != "finished":
        record = resumed_record(context.record, plan, context.resumed_step or 0)
    log = JsonlSink(out / "log.jsonl")
    if rank() == 0:
        remove_stale_temps(out, out / "state")
        write_json(out / RECORD_FILE, {**record, "status": "running"})
        if data.seen is not None:
            write_seen_images(out, torch.cat([data.seen, store.content_hashes]).unique())
        for note in context.notes:
            context.notify(note)
            if not context.record:
                log(Note(note))
    dashboards = open_loggers(context.options.loggers, out, record, log) if rank() == 0 else []
    barrier()
    return RunFolder(record, log, dashboards)


def fit_module(
    context: PretrainContext, data: PreparedData, train_module: TrainModule, plan: Plan, folder: RunFolder
) -> tuple[FitResult, BestWeights | None]:
    """Train; returns the result, and the scores of the probe where initial weights are watched."""
    probe, images = context.options.probe, data.store.images
    best = BestWeights(probe, context.out) if probe and plan.probe_at_start else None
    monitor = make_feature_monitor(subsample_evenly(images, MONITOR_IMAGES), data.view_size)
    result = fit(
        train_module, images, plan, context.config.recipe.optim, run=context.out, resume=context.record is not None,
        observers=Observers((*context.sinks, folder.log, *folder.dashboards), best or probe, monitor),
        fabric=context.fabric,
    )  # fmt: skip
    return result, best


def finish(
    context: PretrainContext, train_module: TrainModule, folder: RunFolder, fit_result: FitResult,
    best: BestWeights | None,
) -> dict[str, Any]:  # fmt: skip
    """Write the weights and the result."""
    out, record = context.out, folder.record
    decline = best.decline_message() if best and rank() == 0 else None
    if decline:
        context.notify(decline)
        folder.log(Note(decline))
    result = {
        "run": str(out), "task": context.config.task, "steps": fit_result.steps,
        "seconds": round(time.perf_counter() - context.start_time, 2),
        "images_per_second": round(fit_result.images_per_second, 1), "loss": round(fit_result.loss, 6),
        **({"skipped_steps": fit_result.skipped_steps} if fit_result.skipped_steps else {}),
        **({"probe": best.scores()} if best else {}),
    }  # fmt: skip
    if record.get("status") != "finished":
        record["segments"][-1]["grad_accum"] = fit_result.grad_accum  # out of memory may have raised it
    else:
        result = recorded_result(record)  # no step was left to take
    record = record_with_changes(record, fit_result.changes)
    backbone = unsharded_backbone(train_module.backbone)
    if rank() == 0:
        if best and decline:
            backbone = load_backbone(best.weights_file)
        save_backbone(backbone, out / WEIGHTS_FILE)
        write_json(out / RECORD_FILE, {**record, "status": "finished", "result": result})
        shutil.rmtree(out / DECODE_CACHE, ignore_errors=True)
    barrier()
    return result
