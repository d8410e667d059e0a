"""Messages and progress bars on standard error, results on standard output, and the check of numeric options."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from headway.distributed import rank
from headway.errors import HeadwayError

MAX_SKIPPED_SHOWN = 5
"""Unreadable images named at most."""
stderr_console = Console(stderr=True)


def check_at_least(minimum: int, **options: int) -> None:
    """Refuse options below a minimum. Raises HeadwayError."""
    for name, value in options.items():
        if value < minimum:
            raise HeadwayError(f"--{name.replace('_', '-')} must be {minimum} or more, got {value}")


def print_line(text: str) -> None:
    """Print a line of a result on standard output, unwrapped; rich markup in the text is printed as it is."""
    Console(soft_wrap=True, highlight=False, markup=False).print(text)


def print_table(table: Table) -> None:
    """Print a table on standard output, at most as wide as the terminal."""
    Console(highlight=False, markup=False).print(table)


def print_note(text: str) -> None:
    """Print a line on standard error, from process 0 only; rich markup in the text is printed as it is."""
    if rank() == 0:
        stderr_console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar; yields a function that takes (done, total)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    progress = Progress(
        *columns, console=stderr_console, transient=True, disable=rank() > 0 or not stderr_console.is_terminal
    )
    task_id = progress.add_task(description, total=None)

    def update(done: int, total: int) -> None:
        progress.start()  # on the first update: bad input that is refused before it shows no bar
        progress.update(task_id, completed=done, total=total)
        if done >= total:  # the next step may draw its own bar
            progress.stop()

    try:
        yield update
    finally:
        progress.stop()


def print_skipped(skipped: Sequence[Sequence[str]], total: int | None = None) -> None:
    """Print the first (name, reason) pairs of unreadable images, and ``total`` where ``skipped`` does not hold all."""
    total = len(skipped) if total is None else total
    for name, reason in skipped[:MAX_SKIPPED_SHOWN]:
        print_note(f"skipped {name!r}: {reason}")
    if total > MAX_SKIPPED_SHOWN:
        print_note(f"... and {total - MAX_SKIPPED_SHOWN} more; skipped {total} in all")
