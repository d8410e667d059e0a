"""What a person sees meanwhile: progress on standard error, results on standard output."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from headway.distributed import rank

errors = Console(stderr=True)


def note(text: str) -> None:
    """A line on standard error; markup in names is not obeyed."""
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
    with Progress(*columns, console=errors, transient=True, disable=rank() > 0) as progress:
        job = progress.add_task(title, total=None)

        def tell(done: int, of: int) -> None:
            progress.update(job, completed=done, total=of)
            if done >= of:  # what comes after may draw a bar of its own
                progress.stop()

        yield tell


def name_skipped(skipped: list[tuple[str, str]], shown: int = 5) -> None:
    """Name the first few pictures that could not be read, and count the rest."""
    for name, reason in skipped[:shown]:
        note(f"skipped {name!r}: {reason}")
    if len(skipped) > shown:
        note(f"... and {len(skipped) - shown} more; skipped {len(skipped)} in all")
