"""Choices made by measuring: precision, form of attention, compilation, and how many steps fit into a budget.

What was measured once is kept (per machine, versions, model and shape) and read back, so that the same command and seed
give the same bits.
"""

import contextlib
import copy
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from headway.config import Optim
from headway.data.loader import Loader
from headway.data.picked import Pictures
from headway.distributed import all_counts, alone, broadcast_object, rank, world
from headway.draws import hashed
from headway.errors import HeadwayError
from headway.files import read_json, write_json
from headway.protocol import Batch, Clock, Learner
from headway.train.memory import smaller_parts
from headway.train.plan import Plan
from headway.train.step import Workshop, couples_batch, set_up, take_step

AGREES = 0.08
"""A kept number of steps is used again while a fresh measurement agrees with it to this share."""
NANO, NEVER = 10**9, 10**18
"""Nanoseconds a second, in which processes tell one another how long they took, and a time that none takes."""
LONG = 1200.0
"""Seconds from which on compiling, which itself takes a minute, is tried."""


def cache_folder() -> Path:
    """Where measured choices are kept: $HEADWAY_CACHE, else the user's cache folder."""
    given = os.environ.get("HEADWAY_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(given) if given else Path(base) / "headway"


def measure_step(
    learner: Learner, images: Pictures, plan: Plan, optim: Optim, *, limit: float, least: int = 2, most: int = 12
) -> float:
    """Seconds a step takes on the mean of the run, by taking some on a copy: the learner itself is left as it was.

    Args:
        learner: Backbone and task.
        images: The stored pictures.
        plan: How the step is taken.
        optim: How weights are moved.
        limit: Seconds after which to stop, warm-up not counted.
        least: Steps timed at least, in each phase of the task.
        most: Steps timed at most, in each.
    """
    phases = learner.task.phases
    shares = [end - start for start, end in pairwise((*phases, 1.0))]
    shop = set_up(copy.deepcopy(learner), optim, plan)
    return sum(
        share * _phase(shop, images, plan, optim, start, limit / len(phases), least, most)
        for start, share in zip(phases, shares, strict=True)
    )


def _phase(
    shop: Workshop, images: Pictures, plan: Plan, optim: Optim, start: float, limit: float, least: int, most: int
) -> float:
    """Seconds of a step in the phase that begins at this share of the run: the median, one for warm-up left out."""
    total = 1000 * (most + 2)
    loader = Loader(images, seed=plan.seed, batch=plan.batch, rank=rank(), world=world())
    times: list[float] = []
    for step, (batch, places) in enumerate(loader.batches(0, most + 1)):
        began = time.perf_counter()
        on_device = [tensor.to(shop.fabric.device) for tensor in (*batch, places)]
        clock = Clock(math.ceil(start * total) + step, total, 0.0)
        taken = take_step(shop, optim, plan, Batch(*on_device[:2]), on_device[2], clock)
        float(taken.shares["loss"])  # waits for the device
        times.append(time.perf_counter() - began)
        if broadcast_object(len(times) > least and sum(times[1:]) > limit):
            break
    return float(broadcast_object(statistics.median(times[1:])))


def fastest(
    learner: Learner,
    images: Pictures,
    plan: Plan,
    optim: Optim,
    *,
    precisions: Sequence[str],
    compiled: Sequence[bool] = (False,),
    limit: float = 4.0,
) -> tuple[Plan, dict[str, float]]:
    """The plan with the precision, form and compilation that took a step in the least time.

    Candidates are compared on a quarter of the batch, to be quick. Each of several processes tries them on its own part
    without waiting for the others, so that one of them may run out of memory; the slowest counts. Where weights are cut
    over the processes they have to go together, and plain attention, which takes the most memory, isn't tried.

    Returns:
        The plan, and the seconds a small step took under each candidate.

    Raises:
        HeadwayError: Out of memory where the processes have to go together.
    """
    together = plan.shard and world() > 1
    least = max(min(plan.batch, 32), learner.task.minimum_batch)
    batch = max(plan.batch // 4, least, world()) if together else max(plan.batch // 4, least) // world()
    small = replace(plan, batch=max(batch, learner.task.minimum_batch, 1), accumulate=1)
    candidates: list[dict[str, Any]] = [
        {"precision": precision, "form": form, "compile": compile_}
        for compile_ in compiled
        for precision in precisions
        for form in (("fused",) if together else ("fused", "plain"))
    ]
    seconds = {}
    for candidate in candidates:
        name = "/".join([candidate["precision"], candidate["form"], *(["compiled"] if candidate["compile"] else [])])
        trial = replace(small, **candidate)
        own = math.inf
        with nullcontext() if together else alone():
            try:
                own = measure_step(learner, images, trial, optim, limit=limit / len(candidates), most=6)
            except torch.OutOfMemoryError as fault:
                if together:
                    smaller_parts(trial, couples_batch(learner), fault)  # which says what to do instead
        seconds[name] = max(all_counts(NEVER if own == math.inf else round(own * NANO))) / NANO
        seconds[name] = math.inf if seconds[name] >= NEVER / NANO else seconds[name]
    best = min(range(len(candidates)), key=list(seconds.values()).__getitem__)
    return replace(plan, **candidates[best]), seconds


class Memory:
    """Choices kept from earlier runs, one JSON file; a damaged or unwritable one is as good as none."""

    def __init__(self, *facts: object):
        self.path = cache_folder() / "choices.json"
        threads = torch.get_num_threads()
        device = (
            torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
        )
        versions = [version(name) for name in ("headway", "torch", "lightning-fabric", "timm")]
        parts = (platform.node(), device, threads, world(), versions, *facts)
        self.key = f"{hashed(*[json.dumps(part, sort_keys=True, default=str) for part in parts]):016x}"

    def recall(self) -> dict[str, Any]:
        """What was kept under these facts; empty where nothing was."""
        return dict(broadcast_object(self._all().get(self.key, {})))

    def keep(self, choices: dict[str, Any]) -> None:
        """Keep choices under these facts."""
        if rank() == 0:
            with contextlib.suppress(OSError, HeadwayError):  # a read-only home costs a measurement, not the run
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_json(self.path, {**self._all(), self.key: choices})

    def _all(self) -> dict[str, Any]:
        with contextlib.suppress(HeadwayError):
            content = read_json(self.path)
            return content if isinstance(content, dict) else {}
        return {}


def steps_for(remaining: float, seconds_per_step: float, kept: int | None) -> int:
    """How many steps fit into the remaining seconds; a kept number is used while it still fits to within AGREES."""
    fresh = max(int(remaining / max(seconds_per_step, 1e-9)), 1)
    return kept if kept and abs(kept - fresh) <= AGREES * fresh else fresh
