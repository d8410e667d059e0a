"""Set the number of torch's threads, and run Python threads that do not slow torch's threads down."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def available_threads() -> int:
    """Threads that torch is allowed, and at most the cores on which this process may run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(torch.get_num_threads(), cores)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads within the block; 0: as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
