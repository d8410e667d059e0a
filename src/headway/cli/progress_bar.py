"""Draws the progress of verbs, in a terminal or in a notebook. ``headway.ProgressBar()`` goes where ``progress`` is."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from headway.utils.progress import ProgressEvent

NOTEBOOK_INTERVAL_S = 0.2
"""Seconds between two updates of a notebook's output."""


class ProgressBar:
    """A bar for each stage in a terminal, one line per stage in a notebook; elsewhere nothing is drawn.

    Stages that report more than their progress, such as a loss, stay visible when they are over. Example:
    ``headway.pretrain("rotation", data="photos", out="run", progress=headway.ProgressBar())``.

    Args:
        console: Where a terminal's bars are drawn; None: standard error.
    """

    def __init__(self, console: Console | None = None):
        self.console = console or Console(stderr=True)
        self._stage: str | None = None
        self._drawing: _TerminalBar | _NotebookLine | None = None

    def __call__(self, event: ProgressEvent) -> None:
        """Draw the event."""
        if event.stage != self._stage:
            self.close()
            self._stage, self._drawing = event.stage, self._start(event)
        if self._drawing:
            self._drawing.update(event)
        if event.done >= event.total:
            self.close()

    def close(self) -> None:
        """End the bar of the current stage, if there is one."""
        if self._drawing:
            self._drawing.stop()
        self._stage = self._drawing = None

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _start(self, event: ProgressEvent) -> "_TerminalBar | _NotebookLine | None":
        if _in_notebook():
            return _NotebookLine()
        return _TerminalBar(self.console, event) if self.console.is_terminal else None


class _TerminalBar:
    def __init__(self, console: Console, event: ProgressEvent):
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        columns += [TextColumn("{task.fields[text]}"), TimeRemainingColumn(), TextColumn("left")]
        self.progress = Progress(*columns, console=console, transient=not event.text)
        self.task_id = self.progress.add_task(event.stage, total=event.total, text="")
        self.progress.start()

    def update(self, event: ProgressEvent) -> None:
        self.progress.update(self.task_id, completed=event.done, total=event.total, text=event.text)

    def stop(self) -> None:
        self.progress.stop()


class _NotebookLine:
    """One output of a cell, which is replaced instead of appended to."""

    def __init__(self) -> None:
        self.handle: Any = None
        self.shown_at, self.text = 0.0, ""

    def update(self, event: ProgressEvent) -> None:
        share = event.done / event.total if event.total else 1.0
        filled = round(20 * share)
        bar = "█" * filled + "░" * (20 - filled)
        self.text = f"{event.stage} {bar} {event.done:,}/{event.total:,} {event.text}".rstrip()
        if time.monotonic() - self.shown_at >= NOTEBOOK_INTERVAL_S:
            self._show()

    def stop(self) -> None:
        self._show()

    def _show(self) -> None:
        from IPython.display import display

        self.shown_at, data = time.monotonic(), {"text/plain": self.text}
        if self.handle is None:
            self.handle = display(data, raw=True, display_id=True)
        else:
            self.handle.update(data, raw=True)


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")
