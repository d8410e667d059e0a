"""A warning of Python's about images that a run cannot read, for callers who see no notes."""

import warnings
from collections.abc import Callable

MAX_SKIPPED_SHOWN = 3
"""Unreadable images that a warning names."""


def warn_of_skipped() -> Callable[[str], None]:
    """A receiver of a run's notes, which warns before the training starts of images that cannot be read."""
    skipped: list[str] = []

    def notify(note: str) -> None:
        if note.startswith("skipped "):
            skipped.append(note.removeprefix("skipped "))
        elif skipped:
            text = f"{len(skipped)} of the images cannot be read ({'; '.join(skipped[:MAX_SKIPPED_SHOWN])})"
            warnings.warn(f"{text}: the backbone is not trained on them", stacklevel=2)
            skipped.clear()

    return notify
