"""Set the number of torch's threads, and run Python threads that do not slow torch's threads down."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from headway.utils.cores import available_cores

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

STALL_RATIO, STALL_PROBE_S, STALL_PROBE_ELEMENTS = 1.5, 0.15, 2**17
"""Several threads stall where an elementwise operation takes them more than this many times the time of one thread;
seconds for which it is repeated (several time slices of the system), and its elements. Threads that share an operation
wait awake for the slowest of them, so a computation can take twenty times as long as with one thread where another
program takes a core."""
STALL_MEMORY_S = 10.0
"""Seconds after which it is tried again whether threads stall."""
_last_probe: tuple[int, float, bool] | None = None
"""Number of threads, time and result of the last probe."""


def available_threads() -> int:
    """Threads that torch is allowed, and at most the cores on which this process may run."""
    return min(torch.get_num_threads(), available_cores())


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads within the block; 0: as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_stall(count: int) -> bool:
    """Whether several threads take longer than one for an elementwise operation, since another program has a core."""
    x = torch.ones(STALL_PROBE_ELEMENTS)
    seconds = []
    for threads in (1, count):
        with torch_threads(threads):
            x.add_(1.0)  # starts the threads
            start, elapsed, operations = time.perf_counter(), 0.0, 0
            while elapsed < STALL_PROBE_S:
                x.add_(1.0)
                elapsed, operations = time.perf_counter() - start, operations + 1
        seconds.append(elapsed / operations)
    return seconds[1] > STALL_RATIO * seconds[0]


def unstalled_threads() -> int:
    """The number of threads for one long computation: all that are available, or 1 where they would stall.

    The answer is kept for STALL_MEMORY_S.
    """
    global _last_probe
    count, now = available_threads(), time.monotonic()
    if count == 1:
        return 1
    if _last_probe is None or _last_probe[0] != count or now > _last_probe[1] + STALL_MEMORY_S:
        _last_probe = count, now, threads_stall(count)
    return 1 if _last_probe[2] else count


@contextmanager
def thread_executor(max_workers: int, thread_name_prefix: str) -> Iterator[ThreadPoolExecutor]:
    """A thread pool in which each thread runs torch single-threaded. At exit it cancels tasks that have not started.

    Each Python thread that calls torch gets its own team of OpenMP threads. If there are more of these threads than
    cores, GNU OpenMP lets all threads sleep between two operations instead of spinning, also those of the training
    thread. On a small machine, training then gains nothing from the second core.

    Args:
        max_workers: Number of threads.
        thread_name_prefix: Prefix of the threads' names, for a debugger.
    """
    before = torch.get_num_threads()  # fixes this thread's number before the workers change the default
    executor = ThreadPoolExecutor(max_workers, thread_name_prefix, torch.set_num_threads, (1,))
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def prefetch_map(
    fn: Callable[[ItemT], ResultT], items: Iterable[ItemT], threads: int, ahead: int, thread_name_prefix: str
) -> Iterator[ResultT]:
    """``map`` in threads, in order; the threads end with the iterator.

    Args:
        fn: Called in the threads.
        items: Its arguments.
        threads: Number of threads.
        ahead: Items that are in progress, or done but not yielded, while the caller uses a result: a bound on memory.
        thread_name_prefix: As for ``thread_executor``.
    """
    remaining, pending = iter(items), deque[Future[ResultT]]()
    with thread_executor(threads, thread_name_prefix) as executor:
        pending.extend(executor.submit(fn, item) for item in itertools.islice(remaining, ahead))
        while pending:
            result = pending.popleft().result()
            pending.extend(executor.submit(fn, item) for item in itertools.islice(remaining, 1))
            yield result
