"""Signals and lost processes: a run that receives SIGTERM or Ctrl-C finishes its step, saves and ends."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from headway.distributed import all_gather_int, world_size
from headway.errors import HeadwayError


class Interrupted(KeyboardInterrupt):
    """A run received a signal to stop, and has saved.

    Attributes:
        signal: Number of the signal.
        exit_code: By convention 128 plus that number.
    """

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.signal, self.exit_code = signal_number, 128 + signal_number


@contextmanager
def graceful_shutdown(enabled: bool) -> Iterator[Callable[[], int]]:
    """Record the first SIGTERM or Ctrl-C within the block; a second one of its kind has its usual effect.

    Args:
        enabled: False leaves signals alone.

    Yields:
        A function that every process must call together. It returns the number of the signal that any of them received,
        or 0. Outside the main thread, where Python allows no signal handlers, it always returns 0.
    """
    received = [0]

    def handle(number: int, frame: FrameType | None) -> None:
        received[0] = number
        signal.signal(number, previous[signal.Signals(number)])

    def stop_signal() -> int:
        return max(all_gather_int(received[0]))

    install = enabled and threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGTERM, signal.SIGINT) if install else ()
    previous = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}
    for number in previous:
        signal.signal(number, handle)
    try:
        yield stop_signal
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


LOST_PROCESS_MESSAGES = (
    "connection closed", "connection reset", "broken pipe",  # gloo
    "remote process", "communicator was aborted", "collective operation timeout", "timed out waiting",  # NCCL
)  # fmt: skip
"""Parts of the errors that torch's backends raise when another process is gone."""


@contextmanager
def detect_lost_process(run: Path) -> Iterator[None]:
    """Turn the failure of a collective within the block, where another process is gone, into one line for the user.

    Raises:
        HeadwayError: On one of the remaining processes; the others exit silently.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error).lower()
        lost = any(message in text for message in LOST_PROCESS_MESSAGES)
        if world_size() == 1 or isinstance(error, HeadwayError) or not lost:
            raise
        if not _claim_report(run / "state" / ".lost.tmp"):  # removed when the run is resumed
            sys.exit(2)
        raise HeadwayError(
            "process-lost",
            f"another process of this run is gone ({str(error).splitlines()[0][:80]}), so all processes end; "
            f"with --resume the command continues from the last checkpoint in {run} "
            "(torchrun --max-restarts repeats it by itself)",
        ) from error


def _claim_report(marker: Path) -> bool:
    """Whether this process is the first to report; each one is where the marker cannot be written."""
    with suppress(OSError):
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
    return True
