"""A process of the run has died: those that are left say so once, and end."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headway.distributed import world
from headway.errors import HeadwayError

SIGNS = (
    "connection closed", "connection reset", "broken pipe",  # gloo
    "remote process", "communicator was aborted", "collective operation timeout", "timed out waiting",  # NCCL
)  # fmt: skip
"""What torch's backends write when the other side is gone."""


@contextmanager
def noticing(run: Path) -> Iterator[None]:
    """Within the block a collective that fails because another process is gone becomes one line for a person.

    Raises:
        HeadwayError: On one of the processes that are left; the others end without a word.
    """
    try:
        yield
    except RuntimeError as fault:
        text = str(fault).lower()
        if world() == 1 or isinstance(fault, HeadwayError) or not any(sign in text for sign in SIGNS):
            raise
        if not _first_to_say(run / "state" / ".lost.tmp"):  # swept away when the run goes on
            sys.exit(2)
        raise HeadwayError(
            f"another process of this run is gone ({str(fault).splitlines()[0][:80]}), so all end; with --resume the "
            f"command goes on from the last checkpoint in {run} (torchrun --max-restarts repeats it by itself)"
        ) from fault


def _first_to_say(mark: Path) -> bool:
    with suppress(OSError):  # where it cannot be written, everybody speaks
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
    return True
