"""Messages of the library go to the standard logger ``headway``, which is silent until an application listens to it."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

MAX_SKIPPED_SHOWN = 5
"""Unreadable images named at most."""
logger = logging.getLogger("headway")
logger.addHandler(logging.NullHandler())


def note(text: str) -> None:
    """Tell what was chosen or found, at level INFO."""
    logger.info("%s", text)


def note_skipped(skipped: Sequence[Sequence[str]], total: int | None = None) -> None:
    """Name the first (name, reason) pairs of unreadable images, at level WARNING.

    Args:
        skipped: The pairs.
        total: How many there are, where ``skipped`` does not hold all.
    """
    total = len(skipped) if total is None else total
    for name, reason in skipped[:MAX_SKIPPED_SHOWN]:
        logger.warning("skipped %r: %s", name, reason)
    if total > MAX_SKIPPED_SHOWN:
        logger.warning("... and %d more; skipped %d in all", total - MAX_SKIPPED_SHOWN, total)


@contextmanager
def notes_to(handler: logging.Handler) -> Iterator[None]:
    """Within the context, a handler receives the messages as well."""
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
