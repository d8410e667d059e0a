"""Whether a verb runs as a command, and since when. Only the command line sets it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

_start_time: float | None = None


@contextmanager
def running_command() -> Iterator[None]:
    """Within the context, verbs run as a command that has just started."""
    global _start_time
    _start_time = time.perf_counter()
    try:
        yield
    finally:
        _start_time = None


def command_start_time() -> float:
    """The time at which the command started, by ``time.perf_counter``; now for a call from Python."""
    return time.perf_counter() if _start_time is None else _start_time


def is_command() -> bool:
    """Whether a verb runs from the command line; calls from Python start no processes unless they are asked to."""
    return _start_time is not None
