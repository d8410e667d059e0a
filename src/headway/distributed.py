"""Processes of a run, collectives, and batch statistics over all processes; with one process they change nothing.

The gradient of a sum over processes is again a sum over processes. The engine weights each process's loss by its share
of the batch, and DDP averages, so that the result is the gradient of the whole batch's loss.
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

_single_process: ContextVar[bool] = ContextVar("single_process", default=False)


class LauncherEnv(NamedTuple):
    """Numbers of processes, as a launcher announces them.

    Attributes:
        world_size: Over all machines.
        local_world_size: On this machine.
    """

    world_size: int
    local_world_size: int


def launcher_env() -> LauncherEnv:
    """What torchrun, or SLURM's srun, announces in the environment; one process where neither does.

    Raises:
        HeadwayError: srun without a number of tasks per machine, which Fabric needs.
    """
    given = os.environ
    if "WORLD_SIZE" in given:  # torchrun comes before SLURM, since it may run inside it
        processes = int(given["WORLD_SIZE"])
        return LauncherEnv(processes, int(given.get("LOCAL_WORLD_SIZE", processes)))
    if "SLURM_PROCID" in given and given.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        processes = int(given.get("SLURM_NTASKS", 1))
        if processes > 1 and "SLURM_NTASKS_PER_NODE" not in given:
            raise HeadwayError(f"srun starts {processes} tasks without a number per machine; give --ntasks-per-node")
        return LauncherEnv(processes, int(given.get("SLURM_NTASKS_PER_NODE", 1)))
    return LauncherEnv(1, 1)


@contextmanager
def single_process() -> Iterator[None]:
    """Within the block this process works as if it were the only one; it waits for no other, and errors stay here."""
    token = _single_process.set(True)
    try:
        yield
    finally:
        _single_process.reset(token)


def is_single_process() -> bool:
    """Whether the code runs within ``single_process``."""
    return _single_process.get()


def world_size() -> int:
    """Number of processes of this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not is_single_process() else 1


def rank() -> int:
    """This process's rank, from 0."""
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
        padded = x.new_zeros(max(counts), *x.shape[1:])  # collectives need equal shapes, and batches may be uneven
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
    """Every process's integer, in rank order; None as the device means the one that collectives need."""
    if world_size() == 1:
        return [value]
    if device is None:
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    parts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world_size())]
    dist.all_gather(parts, torch.tensor([value], device=device))
    return [int(part) for part in parts]


def all_gather_rows(x: Tensor) -> tuple[Tensor, int]:
    """Concatenate the rows of all processes, differentiably.

    Args:
        x: Rows first; the number of rows may differ between processes.

    Returns:
        All rows (total number of rows, then the other dimensions of x), and the offset of this process's first row.
    """
    if world_size() == 1:
        return x, 0
    counts = all_gather_int(len(x), x.device)
    return _AllGatherRows.apply(x, counts), sum(counts[: rank()])


def duplicate_mask(sample_index: Tensor) -> Tensor:
    """Mask of the rows over all processes that show the same image as a row of this process.

    A batch that spans the end of an epoch may hold an image twice; an image is no negative of itself.

    Args:
        sample_index: B, int64: the image of each row of this process.

    Returns:
        B A, bool, with A rows over all processes; False for the row itself.
    """
    gathered, start = all_gather_rows(sample_index)  # A
    rows = torch.arange(len(sample_index), device=sample_index.device)  # B
    same = sample_index[:, None] == gathered  # B A
    same[rows, start + rows] = False
    return same


def all_mean(x: Tensor) -> Tensor:
    """The mean over the rows of all processes, differentiable: B *rest -> *rest."""
    total = all_sum(x.sum(0))
    return total / sum(all_gather_int(len(x), x.device))


def sum_and_count(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The input of ``global_mean`` from one micro-batch: the sum over rows (B *rest -> *rest), and their number."""
    return rows.detach().sum(0), torch.tensor(len(rows), device=rows.device)


def global_mean(step_stats: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The mean over the rows of a whole step, of all micro-batches and processes: *rest.

    Args:
        step_stats: ``sum_and_count`` of every micro-batch on this process.
    """
    total = all_sum(torch.stack([rows for rows, _ in step_stats]).sum(0))
    return total / all_sum(torch.stack([count for _, count in step_stats]).sum())


def broadcast_object(value: Any) -> Any:
    """Rank 0's value (plain data), on every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def barrier() -> None:
    """Wait for every process."""
    if world_size() > 1:
        dist.barrier()
