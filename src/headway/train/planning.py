"""From a job and its pictures to a learner, and to a plan whose choices are measured."""

import math
import time
from dataclasses import replace
from typing import Any

import torch

from headway.backbones.load import architecture, build_backbone, missing
from headway.config import describe
from headway.data.store import Store
from headway.protocol import Facts, Inputs, Learner
from headway.train.choices import LONG, Memory, fastest, measure_step, steps_for
from headway.train.job import Job
from headway.train.loop import Plan

FINISH = 0.5
"""Seconds kept back from a budget for the last files, beside what writing the weights takes."""


def channel_statistics(images: torch.Tensor) -> Inputs:
    """Mean and deviation of every channel, from at most 2,000 pictures spread evenly over the data (N C H W)."""
    sample = images[torch.linspace(0, len(images) - 1, min(len(images), 2000)).long()].float()
    scale = 255.0 if images.dtype == torch.uint8 else 1.0
    mean = (sample.mean((0, 2, 3)) / scale).tolist()
    std = (sample.std((0, 2, 3)) / scale).clamp_min(1e-3).tolist()
    return Inputs(tuple(round(m, 4) for m in mean), tuple(round(s, 4) for s in std), channels=images.shape[1])


def make_learner(job: Job, store: Store, size: int, patch: int) -> Learner:
    """Backbone and task, initialised by the job's seed; torch's global generator is left as it was."""
    inputs = channel_statistics(store.images)._replace(grey=job.recipe.grey)
    images = store.images

    def sample(n: int) -> torch.Tensor:
        return images[torch.linspace(0, len(images) - 1, min(n, len(images))).long()]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        backbone: Any = build_backbone(
            job.backbone, size=size, inputs=inputs, stem=job.stem, patch_size=patch, pool=job.recipe.pool
        )
        task = job.recipe.task.build(backbone, Facts(len(images), images.shape[1], sample, size))
    fault = missing(backbone, task.needs, job.task)
    if fault:
        raise fault
    return Learner(backbone, task)


def make_plan(job: Job, store: Store, learner: Learner, batch: int, started: float) -> tuple[Plan, dict[str, Any]]:
    """Measure, or read back what was measured before, and fix the number of steps."""
    optim, images = job.recipe.optim, store.images
    plan = Plan(steps=1, batch=batch, seed=job.seed, accumulate=job.accumulate)
    limit = min(4.0, 0.08 * job.budget) if job.budget else 4.0
    memory = Memory(
        architecture(learner.backbone), describe(job.recipe), batch, job.accumulate, job.precision, job.compile
    )
    kept = memory.recall()
    choices: dict[str, Any] = kept.get("plan", {})
    measured: dict[str, float] = kept.get("measured", {})
    precisions = ("float32", "bf16") if job.precision == "auto" else (job.precision,)
    if not choices:
        plan, measured = fastest(learner, images, plan, optim, precisions=precisions, limit=limit)
        choices = {"precision": plan.precision, "form": plan.form, "compile": job.compile == "on"}
    plan = replace(plan, **choices)
    seconds = measure_step(learner, images, plan, optim, limit=limit / 2)
    steps = job.steps or math.ceil((job.epochs or job.recipe.epochs) * len(images) / batch)
    size = sum(p.numel() for p in learner.parameters())
    reserve = FINISH + size * 4 * 4 / 200e6  # weights, two moments and the copy, at 200 MB/s
    length = (job.budget - (time.perf_counter() - started) - reserve) if job.budget else steps * seconds
    if job.compile == "auto" and "plan" not in kept and length > LONG:
        plan, more = fastest(
            learner, images, plan, optim, precisions=(plan.precision,), compiled=(False, True), limit=limit
        )
        measured |= more
        seconds = measure_step(learner, images, plan, optim, limit=limit / 2)
        length = (job.budget - (time.perf_counter() - started) - reserve) if job.budget else steps * seconds
    if job.budget:
        earlier = kept.get("steps", {})
        steps = steps_for(length, seconds, earlier.get(str(job.budget)))
        kept = {**kept, "steps": {**earlier, str(job.budget): steps}}
    choices = {"precision": plan.precision, "form": plan.form, "compile": plan.compile}
    memory.keep({**kept, "plan": choices, "measured": measured})
    every = max(round(120 / seconds), 1)  # a checkpoint about every two minutes
    plan = replace(plan, steps=steps, save_every=every, log_every=max(min(round(1 / seconds), 50), 1))
    return plan, {"seconds_per_step": seconds, "candidates": measured}
