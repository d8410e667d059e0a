"""Results on standard output; messages of the library and progress bars on standard error."""

import logging
import sys
from contextlib import AbstractContextManager

from rich.console import Console
from rich.table import Table

from headway.utils.notes import notes_to

stderr_console = Console(stderr=True)


def print_line(text: str) -> None:
    """Print a line of a result on standard output, unwrapped; rich markup in the text is printed as it is."""
    Console(soft_wrap=True, highlight=False, markup=False).print(text)


def print_table(table: Table) -> None:
    """Print a table on standard output, at most as wide as the terminal."""
    Console(highlight=False, markup=False).print(table)


def is_first_process() -> bool:
    """Whether this is process 0 of a run; processes have numbers as soon as torch's part for them is loaded."""
    distributed = sys.modules.get("headway.distributed")
    return distributed is None or distributed.rank() == 0


class _NoteHandler(logging.Handler):
    """Prints messages of the library on standard error, from the first process only."""

    def emit(self, record: logging.LogRecord) -> None:
        if is_first_process():
            stderr_console.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)


def notes_on_stderr() -> AbstractContextManager[None]:
    """A context in which messages of the library are printed on standard error."""
    return notes_to(_NoteHandler())
