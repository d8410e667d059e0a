"""The processes of a run, and batch statistics over all of them: every one goes through here, on one process unchanged.

The gradient of a sum over processes is again a sum over processes: the engine weighs each process's loss by its share
of the batch and DDP averages, so that what comes out is the gradient of the whole batch's loss.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from headway.errors import HeadwayError

_single_process: ContextVar[bool] = ContextVar("alone", default=False)


class LauncherEnv(NamedTuple):
    """The processes that a launcher says there are.

    Attributes:
        processes: Over all machines.
        local: On this one.
    """

    world_size: int
    local_world_size: int


def launcher_env() -> LauncherEnv:
    """What torchrun, or SLURM's srun, says in the environment; one process where neither does.

    Raises:
        HeadwayError: srun with tasks that it does not count by machine, which Fabric needs.
    """
    given = os.environ
    if "WORLD_SIZE" in given:  # torchrun goes before SLURM, since it may run inside of it
        processes = int(given["WORLD_SIZE"])
        return LauncherEnv(processes, int(given.get("LOCAL_WORLD_SIZE", processes)))
    if "SLURM_PROCID" in given and given.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        processes = int(given.get("SLURM_NTASKS", 1))
        if processes > 1 and "SLURM_NTASKS_PER_NODE" not in given:
            raise HeadwayError(f"srun starts {processes} tasks but not so many a machine; give --ntasks-per-node")
        return LauncherEnv(processes, int(given.get("SLURM_NTASKS_PER_NODE", 1)))
    return LauncherEnv(1, 1)


@contextmanager
def single_process() -> Iterator[None]:
    """Within the block this process works as if there were no other, and waits for none: what fails then fails here."""
    token = _single_process.set(True)
    try:
        yield
    finally:
        _single_process.reset(token)


def is_single_process() -> bool:
    """Whether this is within ``alone``."""
    return _single_process.get()


def world_size() -> int:
    """How many processes work on this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not is_single_process() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient


class _AllGatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        padded = x.new_zeros(max(counts), *x.shape[1:])  # collectives want equal shapes; batches may be uneven
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        start = sum(ctx.counts[: rank()])
        return gradient[start : start + ctx.counts[rank()]], None


def all_sum(x: Tensor) -> Tensor:
    """The sum of x over processes, differentiable; any shape, the same on every process."""
    return _AllReduceSum.apply(x) if world_size() > 1 else x


def all_gather_int(value: int, device: torch.device | str | None = None) -> list[int]:
    """Every process's ``count``, in rank order; on the device that collectives work on, where none is given."""
    if world_size() == 1:
        return [value]
    if device is None:
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    parts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world_size())]
    dist.all_gather(parts, torch.tensor([value], device=device))
    return [int(part) for part in parts]


def all_gather_rows(x: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes under one another, differentiable, and where this process's begin.

    Args:
        x: Rows first; the number of rows may differ between processes.

    Returns:
        (sum of rows) x the rest, and the offset of this process's first row.
    """
    if world_size() == 1:
        return x, 0
    counts = all_gather_int(len(x), x.device)
    return _AllGatherRows.apply(x, counts), sum(counts[: rank()])


def duplicate_mask(sample_index: Tensor) -> Tensor:
    """Which rows of all processes show a row's image once more.

    A batch that runs across the end of a pass may hold an image twice, which is no stranger to itself.

    Args:
        index: B, int64: the image of each row of this process.

    Returns:
        B A, bool, A rows over all processes; False where a row meets itself.
    """
    everyone, start = all_gather_rows(sample_index)  # A
    here = torch.arange(len(sample_index), device=sample_index.device)  # B
    same = sample_index[:, None] == everyone  # B A
    same[here, start + here] = False
    return same


def all_mean(x: Tensor) -> Tensor:
    """The mean over the rows of all processes, differentiable: B *rest -> *rest."""
    total = all_sum(x.sum(0))
    return total / sum(all_gather_int(len(x), x.device))


def sum_and_count(rows: Tensor) -> tuple[Tensor, Tensor]:
    """What ``carried_mean`` wants of one micro-batch: the sum over rows (B *rest -> *rest), and their number."""
    return rows.detach().sum(0), torch.tensor(len(rows), device=rows.device)


def global_mean(step_stats: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The mean over the rows of a whole step, of all micro-batches and processes: *rest.

    Args:
        carries: ``carried_sum`` of every micro-batch on this process.
    """
    total = all_sum(torch.stack([rows for rows, _ in step_stats]).sum(0))
    return total / all_sum(torch.stack([count for _, count in step_stats]).sum())


def broadcast_object(value: Any) -> Any:
    """Rank 0's ``thing`` (plain data), on every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()
