"""SIGTERM and Ctrl-C: a run that is asked to stop finishes its step, saves, and says how to go on."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from headway.distributed import all_counts


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop and has saved.

    Attributes:
        signal: Its number.
        code: The exit code by custom: 128 plus that number.
    """

    def __init__(self, text: str, number: int):
        super().__init__(text)
        self.signal, self.code = number, 128 + number


@contextmanager
def listening(wanted: bool) -> Iterator[Callable[[], int]]:
    """Within the block a first SIGTERM or Ctrl-C is noted; a second one of its kind does what it always did.

    Gives a function that every process must call together; its answer is the signal that any of them was sent, or 0.
    Outside of the main thread, where Python allows no handlers, it is always 0.

    Args:
        wanted: False leaves signals alone.
    """
    noted = [0]

    def note(number: int, frame: FrameType | None) -> None:
        noted[0] = number
        signal.signal(number, previous[signal.Signals(number)])

    def asked() -> int:
        return max(all_counts(noted[0]))

    hear = wanted and threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGTERM, signal.SIGINT) if hear else ()
    previous = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}
    for number in previous:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
