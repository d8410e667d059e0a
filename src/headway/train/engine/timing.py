"""Time optimizer steps, on copies, so that the module itself stays as it was."""

import copy
import math
import statistics
import time
from itertools import pairwise
from typing import Any

from headway.config import Optim
from headway.data.dataset.subset import Images
from headway.data.sampling.loader import Loader
from headway.distributed import broadcast_object, rank, world_size
from headway.protocol import Batch, TrainingClock, TrainModule
from headway.train.config import Plan
from headway.train.engine.step import Engine, make_engine, train_step
from headway.utils.threads import torch_threads
from headway.worker_team import worker_team

PATIENCE, MIN_LIMIT_S = 6.0, 0.1
"""Times the limit after which timing ends although it has seen only one step after the warm-up, as on a very busy
machine; the least limit, in seconds, for that."""
SMALLEST_RUN = 1000
"""Steps of the run that a timed step is taken from, for each timed step: enough that the clock hardly moves."""


def measure_step(
    train_module: TrainModule, images: Images, plan: Plan, optim: Optim, *, time_limit_s: float, min_steps: int = 2,
    max_steps: int = 12, fabric: Any = None,
) -> float:  # fmt: skip
    """Mean seconds per step over the run.

    Args:
        train_module: Backbone and task.
        images: The stored images.
        plan: How the step is taken, also on how many processes and threads.
        optim: The optimizer's settings.
        time_limit_s: Seconds after which timing stops, without warm-up.
        min_steps: Minimum number of timed steps in each phase of the task, unless they take PATIENCE times the limit.
        max_steps: Maximum number of timed steps in each phase.
        fabric: A launched Fabric; None: a new one.
    """
    phases = measure_phases(
        train_module, images, plan, optim, time_limit_s=time_limit_s, min_steps=min_steps, max_steps=max_steps,
        fabric=fabric,
    )  # fmt: skip
    return mean_over_run(train_module, phases)


def measure_phases(
    train_module: TrainModule, images: Images, plan: Plan, optim: Optim, *, time_limit_s: float, min_steps: int = 2,
    max_steps: int = 12, fabric: Any = None, last_only: bool = False,
) -> tuple[float, ...]:  # fmt: skip
    """Median seconds per step in each phase of the task (``PretextTask.cost_milestones``), or in the last one alone.

    The arguments are those of ``measure_step``.
    """
    starts = train_module.task.cost_milestones[-1:] if last_only else train_module.task.cost_milestones
    engine = make_engine(copy.deepcopy(train_module), optim, plan, fabric)
    with worker_team(plan.processes), torch_threads(plan.threads):
        return tuple(
            _time_phase(engine, images, plan, optim, start, time_limit_s / len(starts), min_steps, max_steps)
            for start in starts
        )


def mean_over_run(train_module: TrainModule, phase_seconds: tuple[float, ...]) -> float:
    """Mean seconds per step over the run, from those of each phase."""
    milestones = (*train_module.task.cost_milestones, 1.0)
    return sum((end - start) * s for (start, end), s in zip(pairwise(milestones), phase_seconds, strict=True))


def _time_phase(
    engine: Engine, images: Images, plan: Plan, optim: Optim, phase_start: float, time_limit_s: float, min_steps: int,
    max_steps: int,
) -> float:  # fmt: skip
    """Median seconds per step in the phase that starts at this share of the run, without one warm-up step."""
    total = SMALLEST_RUN * (max_steps + 2)
    loader = Loader(images, seed=plan.seed, batch_size=plan.batch_size, rank=rank(), world_size=world_size())
    times: list[float] = []
    for step, (batch, positions) in enumerate(loader.batches(0, max_steps + 1)):
        start = time.perf_counter()
        on_device = [tensor.to(engine.fabric.device) for tensor in (*batch, positions)]
        clock = TrainingClock(math.ceil(phase_start * total) + step, total, 0.0)
        result = train_step(engine, optim, plan, Batch(*on_device[:2]), on_device[2], clock)
        float(result.metric_shares["loss"])  # waits for the device
        times.append(time.perf_counter() - start)
        enough = len(times) > min_steps and sum(times[1:]) > time_limit_s
        impatient = len(times) > 1 and sum(times) > PATIENCE * max(time_limit_s, MIN_LIMIT_S)
        if broadcast_object(enough or impatient):
            break
    return float(broadcast_object(statistics.median(times[1:])))
