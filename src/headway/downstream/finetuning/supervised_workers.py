"""How many processes and threads supervised trainings use: measured once for each kind of training.

Trainings of the same network on views of the same size, in batches of the same size, use the same workers, so trials on
folds and the training that they select for do not differ in them. Only trainings of a few seconds take one thread,
since measuring would take as long.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from headway.config import Optim
from headway.data.dataset.subset import Images
from headway.protocol import TrainModule
from headway.train.config import Plan
from headway.train.engine.workers import SHORT_RUN_S, Workers, select_workers, worker_options

MEASURE_S = 1.0
"""Seconds for the measurement of all candidates, without warm-up."""
MIN_MEASURED_STEPS = 20
"""Steps of a training below which it takes one thread without a measurement, which takes several steps itself."""


class MeasuredWorkers(NamedTuple):
    """The fastest workers, and what a step takes.

    Attributes:
        workers: The fastest.
        seconds_per_step: With them.
        seconds_of_one_thread: Seconds per step with the first option, which is one thread where there are several.
    """

    workers: Workers
    seconds_per_step: float
    seconds_of_one_thread: float


_measured: dict[str, MeasuredWorkers] = {}
"""By kind of training. It is kept no longer than this process, since other programs on the machine come and go."""


def with_workers(plan: Plan, module: TrainModule, images: Images, optim: Optim, processes: int, threads: int) -> Plan:
    """The plan of a supervised training, with its processes and threads.

    Args:
        plan: How the training is carried out otherwise.
        module: Backbone and task; copies of it are timed.
        images: The labeled images.
        optim: The optimizer's settings.
        processes: The only number that comes into question; 0: any.
        threads: The same for the threads of a process.
    """
    options = supervised_options(plan, processes, threads)
    one_thread = replace(plan, **options[0]._asdict())
    if len(options) == 1 or plan.steps < MIN_MEASURED_STEPS:
        return one_thread
    key = _kind(module, plan, options)
    if key not in _measured:
        _measured[key] = measure_workers(module, images, plan, optim, options)
    found = _measured[key]
    if plan.steps * found.seconds_of_one_thread < SHORT_RUN_S:
        return one_thread
    return replace(
        plan, **found.workers._asdict(), phase_seconds=(found.seconds_per_step,),
        adapt_workers="threads" if processes == 1 else "processes",
    )  # fmt: skip


def forget_measurements() -> None:
    """Measure again before the next training: the machine is no longer as it was."""
    _measured.clear()


def supervised_options(plan: Plan, processes: int, threads: int) -> list[Workers]:
    """The workers that come into question, one thread first; arguments as for ``with_workers``."""
    return worker_options(plan, training_device(), processes, threads)


def measure_workers(
    module: TrainModule, images: Images, plan: Plan, optim: Optim, options: Sequence[Workers]
) -> MeasuredWorkers:
    """Time a step under each option, and select the fastest."""
    choice = select_workers(module, images, plan, optim, options, time_limit_s=MEASURE_S, steps=math.inf)
    workers = Workers(choice.plan.processes, choice.plan.threads)
    one_thread = choice.candidates.get(str(options[0]), choice.seconds_per_step)
    return MeasuredWorkers(workers, choice.seconds_per_step, one_thread)


def training_device() -> torch.device:
    """Where ``fit`` trains: on the accelerator, where there is one."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def _kind(module: TrainModule, plan: Plan, options: Sequence[Workers]) -> str:
    """What the duration of a step depends on: the network, its trained part, the view, the batch."""
    parameters = [(name, list(p.shape), p.requires_grad) for name, p in module.named_parameters()]
    size = getattr(module.task, "size", 0)
    return json.dumps([parameters, size, plan.batch_size, [str(option) for option in options]])
