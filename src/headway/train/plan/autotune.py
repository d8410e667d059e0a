"""Measured choices: precision, attention implementation, compilation, and the number of steps in a budget.

Measured choices are cached (per machine, versions, model and shapes) and read back, so that the same command and seed
give the same bits.
"""

import contextlib
import json
import math
import os
import platform
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from headway.config import Optim
from headway.data.dataset.subset import Images
from headway.distributed import all_gather_int, broadcast_object, rank, single_process, world_size
from headway.errors import HeadwayError
from headway.protocol import TrainModule
from headway.train.config import Plan
from headway.train.engine.oom import halve_micro_batch
from headway.train.engine.step import is_batch_coupled
from headway.train.engine.timing import measure_phases
from headway.utils.files import read_json, write_json
from headway.utils.hashing import stable_hash

STEP_COUNT_TOLERANCE = 0.08
"""A cached number of steps is used again while a new measurement agrees with it to within this share."""
NANOSECONDS, OUT_OF_MEMORY_NS = 10**9, 10**18
"""Nanoseconds per second, the unit in which processes exchange times; and the time that stands for out of memory."""
COMPILE_MIN_RUN_S = 1200.0
"""Duration of a run in seconds above which compilation, which itself takes a minute, is tried."""


def cache_dir() -> Path:
    """Folder of the measured choices: $HEADWAY_CACHE, else the user's cache folder."""
    given = os.environ.get("HEADWAY_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(given) if given else Path(base) / "headway"


def select_fastest(
    train_module: TrainModule,
    images: Images,
    plan: Plan,
    optim: Optim,
    *,
    precisions: Sequence[str],
    compile_options: Sequence[bool] = (False,),
    time_limit_s: float = 4.0,
    fabric: Any = None,
) -> tuple[Plan, dict[str, float]]:
    """The plan with the precision, attention implementation and compilation whose step is fastest.

    Candidates are compared on one thread and a quarter of the batch, to save time. Each of several processes tries them
    on its own part without the others, so that one of them may run out of memory; the slowest process counts. With FSDP
    the processes have to measure together, and manual attention, which takes the most memory, is not tried.

    Returns:
        The plan, and the seconds of a small step under each candidate in the task's last phase.

    Raises:
        HeadwayError: Out of memory where the processes have to measure together.
    """
    together = plan.fsdp and world_size() > 1
    least = max(min(plan.batch_size, 32), train_module.task.min_batch_size)
    batch = (
        max(plan.batch_size // 4, least, world_size()) if together else max(plan.batch_size // 4, least) // world_size()
    )
    small = replace(plan, batch_size=max(batch, train_module.task.min_batch_size, 1), grad_accum=1, threads=1)
    candidates: list[dict[str, Any]] = [
        {"precision": precision, "attention_impl": impl, "compile": compiled}
        for compiled in compile_options
        for precision in precisions
        for impl in (("sdpa",) if together else ("sdpa", "manual"))
    ]
    shared = fabric if together or world_size() == 1 else None
    seconds = {}
    for candidate in candidates:
        name = "/".join(
            [candidate["precision"], candidate["attention_impl"], *(["compiled"] if candidate["compile"] else [])]
        )
        trial = replace(small, **candidate)
        own = math.inf
        with nullcontext() if together else single_process():
            try:
                limit = time_limit_s / len(candidates)
                (own,) = measure_phases(
                    train_module, images, trial, optim, time_limit_s=limit, max_steps=6, fabric=shared, last_only=True
                )
            except torch.OutOfMemoryError as error:
                if together:
                    halve_micro_batch(trial, is_batch_coupled(train_module), error)  # raises an error with advice
        slowest = max(all_gather_int(OUT_OF_MEMORY_NS if own == math.inf else round(own * NANOSECONDS))) / NANOSECONDS
        seconds[name] = math.inf if slowest >= OUT_OF_MEMORY_NS / NANOSECONDS else slowest
    best = min(range(len(candidates)), key=list(seconds.values()).__getitem__)
    return replace(plan, **candidates[best]), seconds


class TuningCache:
    """Choices of earlier runs in one JSON file; a damaged or unwritable file counts as empty."""

    def __init__(self, *key_parts: object):
        self.path = cache_dir() / "autotune.json"
        threads = torch.get_num_threads()
        device = (
            torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
        )
        versions = [version(name) for name in ("headway", "torch", "lightning-fabric", "timm")]
        parts = (platform.node(), device, threads, world_size(), versions, *key_parts)
        self.key = f"{stable_hash(*[json.dumps(part, sort_keys=True, default=str) for part in parts]):016x}"

    def load(self) -> dict[str, Any]:
        """The choices under this key; empty where there are none."""
        return dict(broadcast_object(self._read_all().get(self.key, {})))

    def save(self, choices: dict[str, Any]) -> None:
        """Save the choices under this key."""
        if rank() == 0:
            with contextlib.suppress(OSError, HeadwayError):  # a read-only home costs a measurement, not the run
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_json(self.path, {**self._read_all(), self.key: choices})

    def _read_all(self) -> dict[str, Any]:
        with contextlib.suppress(HeadwayError):
            content = read_json(self.path)
            return content if isinstance(content, dict) else {}
        return {}


def steps_in_budget(remaining_s: float, seconds_per_step: float, cached_steps: int | None) -> int:
    """Steps that fit into the remaining seconds; a cached number is used while it agrees to STEP_COUNT_TOLERANCE."""
    fresh = max(int(remaining_s / max(seconds_per_step, 1e-9)), 1)
    return cached_steps if cached_steps and abs(cached_steps - fresh) <= STEP_COUNT_TOLERANCE * fresh else fresh
