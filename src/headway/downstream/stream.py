"""Any number of pictures in constant memory: decoded, looked at and forgotten, a few hundred at a time."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from torch import Tensor

from headway.data.source import Source, stamp_of
from headway.data.store import Store, build_store
from headway.errors import HeadwayError
from headway.threads import pool

TOGETHER = 512
"""Pictures decoded at a time; the next as many are decoded while these are looked at."""


class Some(NamedTuple):
    """A few pictures, in the source's order.

    Attributes:
        images: N C S S, uint8.
        names: N.
        skipped: (name, reason) of those among them that could not be read.
        upto: The position in the source that comes next.
    """

    images: Tensor
    names: list[str]
    skipped: list[tuple[str, str]]
    upto: int


def stream(
    source: Source, side: int, progress: Callable[[int, int], None] | None = None, start: int = 0, read: int = 0
) -> Iterator[Some]:
    """All pictures of a source at ``side`` x ``side`` pixels, some at a time.

    Args:
        source: The pictures.
        side: In pixels.
        progress: Told how many of how many were dealt with.
        start: The position to go on from; a multiple of ``TOGETHER``, or the end.
        read: How many before it could be read.

    Raises:
        HeadwayError: Where not one picture could be read.
    """
    count = len(source)
    faults: list[tuple[str, str]] = []

    def decode(first: int) -> Store:
        return build_store(source, side, indices=range(first, min(first + TOGETHER, count)), allow_empty=True)

    with pool(1, "headway-stream") as thread:
        coming = thread.submit(decode, start) if start < count else None
        for first in range(start, count, TOGETHER):
            assert coming is not None
            store, upto = coming.result(), min(first + TOGETHER, count)
            coming = thread.submit(decode, upto) if upto < count else None
            read += len(store.images)
            faults = (faults + store.skipped)[:3]
            yield Some(store.images, store.names, store.skipped, upto)
            if progress:
                progress(upto, count)
    if not read:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in faults)
        raise HeadwayError(f"none of {count} pictures could be read ({reasons})")


def identity(source: Source) -> dict[str, Any]:
    """Plain data that changes whenever the pictures may have: how many, their names in order, the source's stamp."""
    digest = hashlib.sha256()
    for index in range(len(source)):
        digest.update(source.name(index).encode("utf-8", "surrogateescape") + b"\0")
    return {"pictures": len(source), "names": digest.hexdigest(), "stamp": stamp_of(source)}
