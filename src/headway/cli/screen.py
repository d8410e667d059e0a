"""What a person sees meanwhile: progress on standard error, results on standard output."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from headway.distributed import rank

errors = Console(stderr=True)


def note(text: str) -> None:
    """A line on standard error, from the first process alone; markup in names is not obeyed."""
    if rank() == 0:
        errors.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def counting(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for things that are counted; gives a function that takes (done, of)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    progress = Progress(*columns, console=errors, transient=True, disable=rank() > 0 or not errors.is_terminal)
    job = progress.add_task(title, total=None)

    def tell(done: int, of: int) -> None:
        progress.start()  # not before: what is refused shows no bar
        progress.update(job, completed=done, total=of)
        if done >= of:  # what comes after may draw a bar of its own
            progress.stop()

    try:
        yield tell
    finally:
        progress.stop()


def name_skipped(skipped: Sequence[Sequence[str]], shown: int = 5, total: int | None = None) -> None:
    """Name the first few pictures that could not be read, and count the rest (where ``skipped`` isn't all of them)."""
    total = len(skipped) if total is None else total
    for name, reason in skipped[:shown]:
        note(f"skipped {name!r}: {reason}")
    if total > shown:
        note(f"... and {total - shown} more; skipped {total} in all")
