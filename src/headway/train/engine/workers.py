"""How a step uses the cores of this machine: one thread, several threads, or several processes of one thread.

What is fastest depends on what else the machine does at the moment, so it is measured.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from headway.config import Optim
from headway.data.dataset.subset import Images
from headway.distributed import world_size
from headway.errors import HeadwayError
from headway.protocol import TrainModule
from headway.train.config import Plan
from headway.train.engine.timing import mean_over_run, measure_phases
from headway.utils.threads import available_threads, threads_stall
from headway.worker_team import CAN_FORK

MIN_IMAGES_PER_PROCESS = 4
"""Images of a step below which another process would cost more than it computes."""
KEEP_TOLERANCE = 1.15
"""An earlier choice is kept while it takes at most this many times as long as the fastest, so that the same command
gives the same bits."""
SHORT_RUN_S = 10.0
"""Seconds below which a run is not worth the time that more measurements would take."""


class Workers(NamedTuple):
    """Processes on this machine, and the torch threads of each."""

    processes: int
    threads: int

    def __str__(self) -> str:
        unit, count = ("process", self.processes) if self.processes > 1 else ("thread", self.threads)
        return f"{count} {unit}{'' if count == 1 else 'es' if unit == 'process' else 's'}"


class WorkerChoice(NamedTuple):
    """The fastest workers.

    Attributes:
        plan: With the workers, and with the seconds per step in each phase.
        seconds_per_step: Mean over the run.
        candidates: Seconds per step in the task's last phase under each candidate, by name.
    """

    plan: Plan
    seconds_per_step: float
    candidates: dict[str, float]


def worker_options(plan: Plan, device: torch.device, processes: int = 0, threads: int = 0) -> list[Workers]:
    """The workers that come into question, one thread first.

    Args:
        plan: Its batch size and compilation count.
        device: Where the step is computed. Beside an accelerator, and in a run of several processes, torch's number of
            threads is kept.
        processes: The only number that comes into question; 0: any.
        threads: The same for the threads of a process.

    Raises:
        HeadwayError: Several processes are asked for where only a launcher can start them.
    """
    if device.type != "cpu" or world_size() > 1:
        if processes > 1:
            raise HeadwayError(
                "processes-unsupported",
                f"--processes {processes} shares the cores of one machine; on accelerators, and on several machines, "
                "processes are started by torchrun or srun",
            )
        return [Workers(1, threads or torch.get_num_threads())]
    if processes > 1 or threads:
        return [Workers(max(processes, 1), threads or 1)]
    available = available_threads()
    most = min(available, plan.batch_size // MIN_IMAGES_PER_PROCESS) if CAN_FORK and not plan.compile else 1
    if processes == 0 and most > 1:  # several processes are at least as fast as several threads, and never stall
        return [Workers(count, 1) for count in sorted({1, most // 2, most})]
    return [Workers(1, count) for count in sorted({1, available})]


def select_workers(
    train_module: TrainModule, images: Images, plan: Plan, optim: Optim, options: Sequence[Workers], *,
    time_limit_s: float, steps: float = math.inf, kept: Workers | None = None, fabric: Any = None,
) -> WorkerChoice:  # fmt: skip
    """Time a step under each option, and select the fastest.

    Args:
        train_module: Backbone and task; copies of it are timed.
        images: The stored images.
        plan: How the step is taken otherwise.
        optim: The optimizer's settings.
        options: From ``worker_options``.
        time_limit_s: Seconds for all of them, without warm-up.
        steps: Number of steps for which they are chosen; where these take less than SHORT_RUN_S with the first option,
            it is taken.
        kept: An earlier choice, which is preferred to others that are only a little faster.
        fabric: A launched Fabric; None: a new one.
    """
    seconds: dict[Workers, float] = {}
    for workers in options:
        if len(options) == 1 or (workers.threads > 1 and threads_stall(workers.threads)):
            continue
        trial = replace(plan, **workers._asdict())
        limit = time_limit_s / 2 / len(options)
        (seconds[workers],) = measure_phases(
            train_module, images, trial, optim, time_limit_s=limit, min_steps=1, max_steps=6, fabric=fabric,
            last_only=True,
        )  # fmt: skip
        if steps * seconds[options[0]] < SHORT_RUN_S:
            break
    best = min(seconds, key=seconds.__getitem__, default=options[0])
    if kept in seconds and seconds[kept] <= KEEP_TOLERANCE * seconds[best]:
        best = kept
    plan = replace(plan, **best._asdict())
    phases = measure_phases(train_module, images, plan, optim, time_limit_s=time_limit_s / 2, fabric=fabric)
    choice = replace(plan, phase_seconds=phases)
    return WorkerChoice(
        choice, mean_over_run(train_module, phases), {str(workers): s for workers, s in seconds.items()}
    )
