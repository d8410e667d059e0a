"""Any number of pictures in constant memory: decoded, looked at and forgotten, a few hundred at a time."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from headway.data.source import Source
from headway.data.store import build_store
from headway.errors import HeadwayError

TOGETHER = 512
"""Pictures in memory at a time."""


class Some(NamedTuple):
    """A few pictures, in the source's order.

    Attributes:
        images: N C S S, uint8.
        names: N.
        skipped: (name, reason) of those among them that could not be read.
    """

    images: Tensor
    names: list[str]
    skipped: list[tuple[str, str]]


def stream(source: Source, side: int, progress: Callable[[int, int], None] | None = None) -> Iterator[Some]:
    """All pictures of a source at ``side`` x ``side`` pixels, some at a time.

    Raises:
        HeadwayError: Where not one picture could be read.
    """
    count, read = len(source), 0
    faults: list[tuple[str, str]] = []
    for start in range(0, count, TOGETHER):
        indices = range(start, min(start + TOGETHER, count))
        store = build_store(source, side, indices=list(indices), allow_empty=True)
        read += len(store.images)
        faults = (faults + store.skipped)[:3]
        yield Some(store.images, store.names, store.skipped)
        if progress:
            progress(indices.stop, count)
    if not read:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in faults)
        raise HeadwayError(f"none of {count} pictures could be read ({reasons})")
