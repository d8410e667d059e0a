"""From a job and its pictures to a learner, and to a plan whose choices are measured."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from headway.backbones.load import architecture, build_backbone, missing
from headway.data.picked import Pictures
from headway.data.source import evenly
from headway.data.store import Store
from headway.distributed import broadcast_object, world
from headway.draws import seeded
from headway.errors import HeadwayError
from headway.plain import describe
from headway.protocol import Facts, Inputs, Learner
from headway.train.choices import LONG, Memory, fastest, measure_step, steps_for
from headway.train.eye import PICTURES
from headway.train.job import Job
from headway.train.memory import most_memory, smaller_parts
from headway.train.origin import Origin, backbone_of
from headway.train.plan import Plan
from headway.train.start import check_backbone, initial_backbone
from headway.train.step import couples_batch

EVERY = 120.0
"""Seconds between checkpoints, about."""
WATCH = 100
"""Steps between looks at the features, where a process's part of a batch is as large as what is looked at."""
LOOKS = 0.01
"""Share of the time that these looks take, about."""
STATISTICS, TOGETHER = 2000, 16
"""Pictures whose channels are measured, and how many of them at a time: they may be large."""
FINISH = 0.5
"""Seconds kept back from a budget for the last files, beside what writing the weights takes."""


def spread(images: Pictures, most: int) -> torch.Tensor:
    """At most so many of N pictures, evenly spread over them."""
    return images[torch.tensor(evenly(len(images), most), dtype=torch.int64)]


def channel_statistics(images: Pictures) -> Inputs:
    """Mean and deviation of every channel, from at most 2,000 pictures spread evenly over the data (N C H W)."""
    chosen = torch.tensor(evenly(len(images), STATISTICS), dtype=torch.int64)
    scale = 255.0 if images.dtype == torch.uint8 else 1.0
    sums, squares = torch.zeros(2, images.shape[1], dtype=torch.float64)  # C each
    for rows in chosen.split(TOGETHER):
        some = images[rows].double() / scale  # n C H W
        sums += some.sum((0, 2, 3))
        squares += some.square().sum((0, 2, 3))
    count = len(chosen) * math.prod(images.shape[2:])
    mean = sums / count
    std = ((squares - sums * mean).clamp_min(0) / (count - 1)).sqrt().clamp_min(1e-3)
    return Inputs(
        tuple(round(m, 4) for m in mean.tolist()), tuple(round(s, 4) for s in std.tolist()), channels=images.shape[1]
    )


def make_learner(job: Job, store: Store, size: int, patch: int, origin: Origin | None = None) -> Learner:
    """Backbone and task, initialised by the job's seed; torch's global generator is left as it was.

    Args:
        job: What was asked for.
        store: The pictures.
        size: Side of the main view.
        patch: To ask the backbone for.
        origin: The run that is extended, whose backbone it is then.
    """
    images = store.images
    grey = job.recipe.grey and images.shape[1] in (1, 3)  # of other channels the task itself says that it needs colour
    inputs = channel_statistics(images)._replace(grey=grey, span=store.form.span)
    with seeded(job.seed):
        backbone: Any = (
            backbone_of(origin) if origin
            else initial_backbone(job, size) if job.weights
            else build_backbone(
                job.backbone, size=size, inputs=inputs, stem=job.stem, patch_size=patch, pool=job.recipe.pool
            )
        )  # fmt: skip
        kept = {"span": store.form.span, "pages": store.form.pages}  # timm's own weights come without
        backbone.inputs = backbone.inputs._replace(**kept)
        task = job.recipe.task.build(backbone, Facts(len(images), images.shape[1], partial(spread, images), size))
    if origin or job.weights:
        check_backbone(backbone, job)
    fault = missing(backbone, task.needs, job.task)
    if fault:
        raise fault
    if job.recipe.grey and not backbone.inputs.grey:
        raise HeadwayError(f"{job.task} wants a backbone that sees lightness alone, and these weights see colour")
    return Learner(backbone, task)


def preview(plan: Plan, count: int, seconds_per_step: float) -> str:
    """What a run will take, in one line: steps, passes over the pictures, time, and memory where it is known."""
    minutes, seconds = divmod(round(plan.steps * seconds_per_step), 60)
    hours, minutes = divmod(minutes, 60)
    time = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    used = most_memory()
    memory = f", {used / 2**30:.1f} GiB of memory" if used else ""
    return (
        f"to do: {plan.steps:,} steps of {plan.batch:,} pictures, {plan.steps * plan.batch / count:.1f} passes over "
        f"{count:,}; about {time}{memory}"
    )


def between_looks(count: int, batch: int) -> int:
    """Steps between looks at the features of ``count`` pictures, at most PICTURES: more where a step is shorter.

    One process looks and the others wait, so what counts is its own part of the batch.
    """
    return WATCH * max(min(PICTURES, count) * world() // batch, 1)


def make_plan(
    job: Job,
    store: Store,
    learner: Learner,
    batch: int,
    started: float,
    say: Callable[[str], None] = lambda text: None,
    shard: bool = False,
) -> tuple[Plan, dict[str, Any]]:
    """Measure, or read back what was measured before, and fix the number of steps, the same on every process.

    Args:
        job: What was asked for.
        store: The pictures.
        learner: Backbone and task.
        batch: Pictures a step.
        started: ``time.perf_counter()`` at which the budget began.
        say: Told what a person should know.
        shard: Whether weights are cut over the processes.
    """
    optim, images = job.recipe.optim, store.images
    limit = min(4.0, 0.015 * job.budget) if job.budget else 4.0
    memory = Memory(
        architecture(learner.backbone), describe(job.recipe), batch, job.accumulate, job.precision, job.compile,
        *(["recompute"] if job.recompute else []), *(["shard"] if shard else []),
    )  # fmt: skip
    kept = memory.recall()
    plan = Plan(
        steps=1, batch=batch, seed=job.seed, accumulate=job.accumulate, recompute=job.recompute, shard=shard,
        watch_every=between_looks(len(images), batch), on_collapse=job.on_collapse,
    )  # fmt: skip
    precisions = ("float32", "bf16") if job.precision == "auto" else (job.precision,)

    def choose(name: str, compiled: tuple[bool, ...]) -> Plan:
        if name not in kept:
            found, seconds = fastest(
                learner, images, plan, optim, precisions=precisions, compiled=compiled, limit=limit
            )
            kept[name] = {
                "precision": found.precision,
                "form": found.form,
                "compile": found.compile,
                "measured": seconds,
            }
        return replace(plan, **{key: value for key, value in kept[name].items() if key != "measured"})

    def measure(plan: Plan) -> tuple[Plan, float, float]:
        """A plan that fits into memory, seconds a step with what comes between, and seconds that the run may take."""
        while True:
            try:
                seconds = measure_step(learner, images, plan, optim, limit=limit / 2)
                break
            except torch.OutOfMemoryError as fault:
                plan = smaller_parts(plan, couples_batch(learner), fault)
                say(f"out of memory: a step is cut into {plan.accumulate} micro-batches")
        seconds *= 1 + writing / EVERY + LOOKS
        left = job.budget - (time.perf_counter() - started) - FINISH - 2 * writing if job.budget else steps * seconds
        return plan, seconds, float(broadcast_object(left))

    writing = sum(p.numel() for p in learner.parameters()) * 4 * 4 / 200e6  # weights, moments and a copy at 200 MB/s
    steps = job.steps or math.ceil((job.epochs or job.recipe.epochs) * len(images) / batch)
    name = "plan"
    chosen = choose(name, (job.compile == "on",))
    chosen, seconds, left = measure(chosen)
    if job.compile == "auto" and left > LONG:
        name = "long plan"
        chosen = choose(name, (False, True))
        chosen, seconds, left = measure(chosen)
    if job.budget:
        if left < seconds:
            say(f"a budget of {job.budget:g} s is over before the first step: one step is taken; give more")
        asked = f"steps in {job.budget:g} s"
        steps = kept[asked] = steps_for(left, seconds, kept.get(asked))
    memory.keep(kept)
    log_every = max(min(round(1 / seconds), 50), 1)
    save_every = max(round(EVERY / seconds / log_every), 1) * log_every
    steps = int(broadcast_object(steps))
    chosen = replace(chosen, steps=steps, save_every=save_every, log_every=log_every)
    return chosen, {"seconds_per_step": seconds, "candidates": kept[name]["measured"]}
