"""Several processes of one machine that train together: forks of this one, with collectives through shared memory.

A fork shares the decoded images with its parent, and starts with the parent's weights in milliseconds. So a team can be
formed for a measurement, dissolved, and formed again in the middle of a run. Each process computes on one thread. (A
team of OpenMP threads waits awake for its slowest thread at every operation: when another program takes a core, all of
them wait for as long as it runs.) The processes meet some fifty times a step, and sleep while they wait.
"""

import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap
from multiprocessing.synchronize import Semaphore
from typing import Any

import torch
from torch import Tensor

from headway.distributed import join_team, world_size
from headway.errors import HeadwayError
from headway.utils.threads import torch_threads

CAN_FORK = sys.platform == "linux"
"""Whether teams can be formed. The system libraries of macOS do not survive a fork; Windows has none."""
BUFFER_BYTES = 2**24
"""Size of a process's part of a buffer; larger tensors are exchanged in pieces."""
SECTION_BYTES = 2**15
"""Size of a sum from which each process adds up a section of it, and not the whole."""
ALIVE_CHECK_S, EXIT_PATIENCE_S = 0.5, 5.0
"""Seconds after which a process that waits looks whether the others live; seconds that these have to end."""
MESSAGE_BYTES = 4096
"""Room for the error of each process."""


@contextmanager
def worker_team(processes: int) -> Iterator[None]:
    """Run the block on this many processes; within it ``distributed`` gives each its rank, and sums over all of them.

    The others are forks of this one, which is rank 0, and end with the block. Whatever they change stays with them, so
    only what rank 0 computes remains. Each computes on one thread.

    Args:
        processes: Their number. With 1, or where the run has several processes already, the block simply runs.

    Raises:
        HeadwayError: Processes cannot be started; within the block, if another process was killed.
        RuntimeError: Another process failed; the message has its traceback.
    """
    if processes == 1 or world_size() > 1:
        yield
        return
    if not CAN_FORK:
        raise HeadwayError(
            "processes-unsupported",
            f"several processes are started on Linux only; use torchrun --nproc-per-node {processes}",
        )
    team, error = WorkerTeam(processes), None
    with torch_threads(1), join_team(team):
        try:
            team.fork()
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            team.end(error)


class WorkerTeam:
    """Rank and collectives of a process in a team.

    A collective writes into one of two buffers in turn, then meets the other processes. Before it writes into the same
    buffer again it has met them once more, so all of them have read what was there.

    Args:
        size: Number of processes.
    """

    def __init__(self, size: int):
        context = multiprocessing.get_context("fork")
        self.size, self.rank, self.parent, self.turn = size, 0, os.getpid(), 0
        self.children: dict[int, int] = {}  # process id -> rank
        self.ended: list[int] = []  # ranks
        self.arrivals: list[Semaphore] = [context.Semaphore(0) for _ in range(size)]
        self.messages = mmap(-1, size * MESSAGE_BYTES)
        memory = mmap(-1, 2 * size * BUFFER_BYTES)  # pages that are never written take no memory
        self.buffers = torch.frombuffer(memory, dtype=torch.uint8).view(2, size, BUFFER_BYTES)

    def fork(self) -> None:
        """Start the other processes; each returns from here with its own rank."""
        with warnings.catch_warnings():  # Python warns of locks that other threads may hold; no fork uses one of them
            warnings.simplefilter("ignore", DeprecationWarning)
            for rank in range(1, self.size):
                try:
                    process = os.fork()
                except OSError as error:
                    raise HeadwayError(
                        "processes-unsupported",
                        f"cannot start {self.size} processes: {error.strerror}; give --processes a smaller number",
                    ) from error
                if process == 0:
                    self.rank, self.children = rank, {}
                    return
                self.children[process] = rank

    def all_sum_(self, x: Tensor) -> None:
        """Replace a contiguous tensor by its sum over processes, whose bits are the same on each of them."""
        for piece in x.view(-1).split(BUFFER_BYTES // x.element_size()):
            rows = self._exchange(piece)  # processes n
            if piece.nbytes < SECTION_BYTES:
                piece.copy_(rows.sum(0))
                continue
            sections = [row.tensor_split(self.size) for row in rows]
            own = [section[self.rank] for section in sections]
            own[self.rank].copy_(torch.stack(own).sum(0))  # no other process reads this section of this row
            self.barrier()
            torch.cat([sections[rank][rank] for rank in range(self.size)], out=piece)

    def all_gather(self, x: Tensor) -> list[Tensor]:
        """Every process's x, in rank order; it has the same shape and type on all of them."""
        pieces = x.contiguous().view(-1).split(BUFFER_BYTES // x.element_size())
        rows = torch.cat([self._exchange(piece).clone() for piece in pieces], 1)  # processes n
        return [row.view(x.shape) for row in rows]

    def broadcast_object(self, value: Any) -> Any:
        """The value of rank 0 (what JSON can hold), on every process."""
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        size = int(self.all_gather(torch.tensor(len(data)))[0])
        padded = torch.zeros(size, dtype=torch.uint8)
        padded[: len(data)] = data[:size]
        return json.loads(self.all_gather(padded)[0].numpy().tobytes())

    def barrier(self) -> None:
        """Wait until every process is here."""
        for rank, arrival in enumerate(self.arrivals):
            if rank != self.rank:
                arrival.release()
        own = self.arrivals[self.rank]
        for _ in range(self.size - 1):
            while not own.acquire(timeout=ALIVE_CHECK_S):
                self._check_alive(own)

    def end(self, error: BaseException | None) -> None:
        """End this process, unless it is rank 0, which waits until the others have ended."""
        if self.rank > 0:
            if isinstance(error, Exception) and not isinstance(error, HeadwayError):  # which rank 0 raises as well
                message = "".join(traceback.format_exception(error)).encode()[-MESSAGE_BYTES:]
                start = self.rank * MESSAGE_BYTES
                self.messages[start : start + len(message)] = message
            os._exit(0 if error is None else 1)  # nothing of what the parent left open is closed or flushed twice
        deadline = time.monotonic() + EXIT_PATIENCE_S
        while self._reap() and time.monotonic() < deadline and not error:
            time.sleep(0.002)
        for process in self.children:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)

    def _exchange(self, piece: Tensor) -> Tensor:
        """Every process's piece (n), in the shared buffer: processes n."""
        self.turn = 1 - self.turn
        rows = self.buffers[self.turn, :, : piece.nbytes].view(piece.dtype)
        rows[self.rank].copy_(piece)
        self.barrier()
        return rows

    def _check_alive(self, arrival: Semaphore) -> None:
        """End if the parent has ended; on rank 0, raise an error if another process has."""
        if self.rank > 0:
            if os.getppid() != self.parent:
                os._exit(1)
            return
        self._reap()
        if not self.ended:
            return
        if not arrival.acquire(False):  # it has not ended after its last meeting
            raise self._lost_error(self.ended[0])
        arrival.release()

    def _reap(self) -> bool:
        """Forget the processes that have ended; returns whether any is left."""
        for process in list(self.children):
            if os.waitpid(process, os.WNOHANG)[0]:
                self.ended.append(self.children.pop(process))
        return bool(self.children)

    def _lost_error(self, rank: int) -> Exception:
        message = (
            self.messages[rank * MESSAGE_BYTES : (rank + 1) * MESSAGE_BYTES].rstrip(b"\0").decode(errors="replace")
        )
        if message:
            return RuntimeError(f"process {rank} of this run failed:\n{message}")
        return HeadwayError(
            "process-lost",
            f"process {rank} of this run was ended from outside (perhaps for want of memory), so all of them end; with "
            "--resume the command continues from the last checkpoint, and --processes 1 needs the least memory",
        )
