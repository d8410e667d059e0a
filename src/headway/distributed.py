"""Processes of a run, collectives, and batch statistics over all processes; with one process they change nothing.

The gradient of a sum over processes is again a sum over processes. The engine weights each process's loss by its share
of the batch, and DDP averages, so that the result is the gradient of the whole batch's loss.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

_single_process: ContextVar[bool] = ContextVar("single_process", default=False)


class Team(Protocol):
    """Processes that train together without a process group of torch (``worker_team``)."""

    size: int
    rank: int

    def all_sum_(self, x: Tensor) -> None:
        """Replace x (contiguous) by its sum over processes."""

    def all_gather(self, x: Tensor) -> list[Tensor]:
        """Every process's x, in rank order."""

    def broadcast_object(self, value: Any) -> Any:
        """Rank 0's value (plain data)."""

    def barrier(self) -> None:
        """Wait for every process."""


_team: Team | None = None


@contextmanager
def join_team(team: Team) -> Iterator[None]:
    """Within the block the collectives below are those of the team."""
    global _team
    _team = team
    try:
        yield
    finally:
        _team = None


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
    if _team is not None:
        return 1 if is_single_process() else _team.size
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not is_single_process() else 1


def rank() -> int:
    """This process's rank, from 0."""
    if world_size() == 1:
        return 0
    return dist.get_rank() if _team is None else _team.rank


def _all_sum_(x: Tensor) -> Tensor:
    if _team is None:
        dist.all_reduce(x)
    else:
        _team.all_sum_(x)
    return x


def _all_gather(x: Tensor) -> list[Tensor]:
    """Every process's x, which has the same shape on all of them."""
    if _team is not None:
        return _team.all_gather(x)
    parts = [torch.empty_like(x) for _ in range(world_size())]
    dist.all_gather(parts, x)
    return parts


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _all_sum_(x.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _all_sum_(gradient.clone(memory_format=torch.contiguous_format))


class _AllGatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        padded = x.new_zeros(max(counts), *x.shape[1:])  # collectives need equal shapes, and batches may be uneven
        padded[: len(x)] = x
        return torch.cat([part[:count] for part, count in zip(_all_gather(padded), counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = _all_sum_(gradient.clone(memory_format=torch.contiguous_format))
        start = sum(ctx.counts[: rank()])
        return gradient[start : start + ctx.counts[rank()]], None


def all_sum(x: Tensor) -> Tensor:
    """The sum of x over processes, differentiable; any shape, the same on every process."""
    return _AllReduceSum.apply(x) if world_size() > 1 else x


def all_gather(x: Tensor) -> Tensor:
    """Every process's x, of the same shape on all of them, without gradient: processes, then the dimensions of x."""
    return torch.stack(_all_gather(x.contiguous())) if world_size() > 1 else x[None]


def all_gather_int(value: int, device: torch.device | str | None = None) -> list[int]:
    """Every process's integer, in rank order; None as the device means the one that collectives need."""
    if world_size() == 1:
        return [value]
    if device is None:
        device = "cuda" if _team is None and dist.get_backend() == "nccl" else "cpu"
    return [int(part) for part in _all_gather(torch.tensor([value], device=device))]


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
    if _team is not None:
        return _team.broadcast_object(value)
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def barrier() -> None:
    """Wait for every process."""
    if world_size() > 1 and _team is not None:
        _team.barrier()
    elif world_size() > 1:
        dist.barrier()


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace the gradients by their means over the processes of a team. DDP averages those of a process group itself.

    Args:
        parameters: Those that have a gradient: the same on every process.
    """
    if _team is None or world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    _team.all_sum_(flat)
    flat /= _team.size
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view(gradient.shape))
