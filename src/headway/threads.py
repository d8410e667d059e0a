"""How many of torch's threads work, and threads of our own that don't get into their way."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many of torch's threads within the block: in short passes they mostly wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def pool(count: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Threads of our own, in each of which torch works with itself alone; at the end what waits is cancelled.

    A thread that calls torch gets a team of torch's threads of its own. Where teams outnumber the cores, GNU's OpenMP
    lets every thread sleep between two operations rather than wait awake, those that train among them, and the second
    core of a small machine brings nothing any more.

    Args:
        count: How many threads.
        name: Their prefix, for a debugger.
    """
    before = torch.get_num_threads()  # this thread takes its own number before the others' becomes the default
    made = ThreadPoolExecutor(count, name, torch.set_num_threads, (1,))
    try:
        yield made
    finally:
        made.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
