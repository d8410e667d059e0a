"""Make the plan of a run: measure what a step costs, then decide the number of steps and all intervals."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch

from headway.backbones.build import to_config
from headway.data.dataset.subset import Images
from headway.distributed import broadcast_object, world_size
from headway.protocol import TrainModule
from headway.train.config import Plan, PretrainConfig
from headway.train.engine.oom import halve_micro_batch, peak_memory
from headway.train.engine.step import is_batch_coupled
from headway.train.engine.workers import WorkerChoice, Workers, select_workers, worker_options
from headway.train.loop.feature_monitor import MONITOR_IMAGES
from headway.train.plan.autotune import COMPILE_MIN_RUN_S, TuningCache, select_fastest, steps_in_budget
from headway.utils.serialize import serialize

CHECKPOINT_INTERVAL_S = 120.0
"""Approximate seconds between checkpoints."""
MONITOR_EVERY_STEPS = 100
"""Steps between checks of the features, where a process's part of a batch is as large as the monitored sample."""
MONITOR_TIME_SHARE = 0.01
"""Approximate share of the time that these checks take."""
FINISH_RESERVE_S = 0.5
"""Seconds of a budget that are reserved for the last files, besides the time to write the weights."""
DISK_BYTES_PER_S = 200e6
"""Assumed write speed for checkpoints."""


@dataclass(frozen=True)
class PlanRequest:
    """What a plan is made from."""

    config: PretrainConfig
    """What was requested."""
    images: Images
    """N C H W, the stored images."""
    train_module: TrainModule
    """Backbone and task; measurements work on copies."""
    batch_size: int
    """Images per step over all processes."""
    start_time: float
    """``time.perf_counter()`` at which the budget began."""
    notify: Callable[[str], None] = lambda text: None
    """Receives messages for the user."""
    fsdp: bool = False
    """Whether weights are sharded over the processes."""
    fabric: Any = None
    """A launched Fabric; None: a new one for each measurement."""
    auto_processes: bool = False
    """Whether several processes may be started on this machine where the config does not say how many."""

    @property
    def write_s(self) -> float:
        """Seconds to write a checkpoint: float32 weights, two moments and a copy."""
        return sum(p.numel() for p in self.train_module.parameters()) * 4 * 4 / DISK_BYTES_PER_S

    @property
    def requested_steps(self) -> int:
        """Steps of the run where it has no budget."""
        epochs = self.config.epochs or self.config.recipe.epochs
        return self.config.steps or math.ceil(epochs * len(self.images) / self.batch_size)


class Measurement(NamedTuple):
    """What was measured.

    Attributes:
        plan: With the fastest precision, attention, compilation and workers, and micro-batches that fit into memory.
        seconds_per_step: With the share of checkpoints and feature checks.
        remaining_s: Seconds that the training may take.
        candidates: Seconds of a small step under each candidate.
        workers: Seconds of a step with each of the workers.
    """

    plan: Plan
    seconds_per_step: float
    remaining_s: float
    candidates: dict[str, float]
    workers: dict[str, float]


def make_plan(request: PlanRequest) -> tuple[Plan, dict[str, Any]]:
    """Measure, or read what was measured earlier, and decide; the plan is the same on every process.

    Returns:
        The plan, and the measurements for the record: seconds_per_step, candidates and workers.
    """
    config = request.config
    cache = TuningCache(
        to_config(request.train_module.backbone), serialize(config.recipe), request.batch_size, config.grad_accum,
        config.precision, config.compile, *(["activation_checkpointing"] if config.activation_checkpointing else []),
        *(["fsdp"] if request.fsdp else []),
    )  # fmt: skip
    cached = cache.load()
    measured = measure(request, cached, "plan", compile_options=(config.compile == "on",))
    if config.compile == "auto" and measured.remaining_s > COMPILE_MIN_RUN_S:
        measured = measure(request, cached, "long_plan", compile_options=(False, True))
    steps = decide_steps(request, measured, cached)
    cache.save(cached)
    return decide_plan(measured, steps), {
        "seconds_per_step": measured.seconds_per_step, "candidates": measured.candidates, "workers": measured.workers,
    }  # fmt: skip


def measure(request: PlanRequest, cached: dict[str, Any], key: str, compile_options: Sequence[bool]) -> Measurement:
    """Select the fastest candidate and time its step; a step that does not fit into memory is split.

    Args:
        request: What the plan is made from.
        cached: Choices of earlier runs; a new choice is added under the key.
        key: Name of the choice.
        compile_options: Whether candidates are compiled, in the order in which they are tried.
    """
    config, train_module, images = request.config, request.train_module, request.images
    optim, fabric = config.recipe.optim, request.fabric
    time_limit_s = min(4.0, 0.015 * config.budget) if config.budget else 4.0
    plan = Plan(
        steps=1, batch_size=request.batch_size, seed=config.seed, grad_accum=config.grad_accum,
        activation_checkpointing=config.activation_checkpointing, fsdp=request.fsdp,
        monitor_every=monitor_interval(len(images), request.batch_size), on_collapse=config.on_collapse,
    )  # fmt: skip
    if key not in cached:
        found, seconds = select_fastest(
            train_module, images, plan, optim, compile_options=compile_options, time_limit_s=time_limit_s,
            precisions=("float32", "bf16") if config.precision == "auto" else (config.precision,), fabric=fabric,
        )  # fmt: skip
        choice = {name: getattr(found, name) for name in ("precision", "attention_impl", "compile")}
        cached[key] = {**choice, "measured": seconds}
    plan = replace(plan, **{name: value for name, value in cached[key].items() if name != "measured"})
    plan, seconds_per_step, workers = measure_workers(request, plan, cached, time_limit_s)
    seconds_per_step *= 1 + request.write_s / CHECKPOINT_INTERVAL_S + MONITOR_TIME_SHARE
    if config.budget:
        elapsed = time.perf_counter() - request.start_time
        remaining_s = config.budget - elapsed - FINISH_RESERVE_S - 2 * request.write_s
    else:
        remaining_s = request.requested_steps * seconds_per_step
    return Measurement(plan, seconds_per_step, float(broadcast_object(remaining_s)), cached[key]["measured"], workers)


def measure_workers(request: PlanRequest, plan: Plan, cached: dict[str, Any], time_limit_s: float) -> WorkerChoice:
    """Select processes and threads for the machine as it is now; a step that does not fit into memory is split.

    Short runs stay in one process. The earlier choice of the same command is kept where it is nearly as fast.
    """
    config, train_module = request.config, request.train_module
    device = next(train_module.parameters()).device if request.fabric is None else request.fabric.device
    processes = config.processes or (0 if request.auto_processes else 1)
    options = worker_options(plan, device, processes, config.threads)
    kept = Workers(*cached["workers"]) if "workers" in cached else None
    while True:
        try:
            choice = select_workers(
                train_module, request.images, plan, config.recipe.optim, options, time_limit_s=time_limit_s, kept=kept,
                steps=math.inf if config.budget else request.requested_steps, fabric=request.fabric,
            )  # fmt: skip
            break
        except torch.OutOfMemoryError as error:
            plan = halve_micro_batch(plan, is_batch_coupled(train_module), error)
            request.notify(f"out of memory: a step is split into {plan.grad_accum} micro-batches")
    cached["workers"] = [choice.plan.processes, choice.plan.threads]
    if len(options) == 1:
        return choice
    adapt: Literal["threads", "processes"] = "threads" if processes == 1 else "processes"
    return choice._replace(plan=replace(choice.plan, adapt_workers=adapt, adapt_steps=bool(config.budget)))


def decide_steps(request: PlanRequest, measured: Measurement, cached: dict[str, Any]) -> int:
    """Number of steps: as requested, or as many as fit into the budget, which are added to the cached choices."""
    steps, budget = request.requested_steps, request.config.budget
    if budget:
        if measured.remaining_s < measured.seconds_per_step:
            request.notify(f"a budget of {budget:g} s is over before the first step: one step is taken; give more")
        key = f"steps in {budget:g} s"
        steps = cached[key] = steps_in_budget(measured.remaining_s, measured.seconds_per_step, cached.get(key))
    return int(broadcast_object(steps))


def decide_plan(measured: Measurement, steps: int) -> Plan:
    """The plan with its number of steps and its intervals: about a log line per second, and a checkpoint per
    CHECKPOINT_INTERVAL_S.
    """
    log_every = max(min(round(1 / measured.seconds_per_step), 50), 1)
    save_every = max(round(CHECKPOINT_INTERVAL_S / measured.seconds_per_step / log_every), 1) * log_every
    return replace(measured.plan, steps=steps, save_every=save_every, log_every=log_every)


def monitor_interval(num_images: int, batch_size: int) -> int:
    """Steps between checks of the features of at most MONITOR_IMAGES images: more where a step is shorter.

    One process checks and the others wait, so what counts is the process's own part of the batch.
    """
    return MONITOR_EVERY_STEPS * max(min(MONITOR_IMAGES, num_images) * world_size() // batch_size, 1)


def plan_summary(plan: Plan, num_images: int, seconds_per_step: float) -> str:
    """What a run will take, in one line: steps, passes, time, workers, and memory where it is known."""
    minutes, seconds = divmod(round(plan.steps * seconds_per_step), 60)
    hours, minutes = divmod(minutes, 60)
    duration = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    used = peak_memory()
    memory = f", {used / 2**30:.1f} GiB of memory" if used else ""
    passes = plan.steps * plan.batch_size / num_images
    return (
        f"to do: {plan.steps:,} steps of {plan.batch_size:,} images, {passes:.1f} passes over {num_images:,}; "
        f"about {duration} with {Workers(plan.processes, plan.threads)}{memory}"
    )
