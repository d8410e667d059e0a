"""Decode any number of images in constant memory, a few hundred at a time."""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor

from headway.data.dataset.image_store import ImageStore, build_store
from headway.data.sources.base import Remarks, Source
from headway.errors import HeadwayError
from headway.utils.progress import Progress
from headway.utils.threads import prefetch_map

DECODE_CHUNK = 512
"""Images decoded at a time; the next chunk is decoded while this one is used."""


class DecodedChunk(NamedTuple):
    """A few images, in the order of the source.

    Attributes:
        images: N C S S, uint8.
        names: N.
        skipped: (name, reason) of those among them that could not be read.
        next_index: The source's index of the image after the chunk.
    """

    images: Tensor
    names: list[str]
    skipped: Remarks
    next_index: int


def decode_chunks(
    source: Source, size: int, progress: Progress | None, start: int, num_decoded: int
) -> Iterator[DecodedChunk]:
    """All images of a source at ``size`` x ``size`` pixels, chunk by chunk.

    Args:
        source: The images.
        size: Side in pixels.
        progress: Called with the number of finished images and the number of all of them.
        start: The index to resume from; a multiple of ``DECODE_CHUNK``, or the end.
        num_decoded: How many images before it could be read.

    Raises:
        HeadwayError: Not one image could be read.
    """
    count = len(source)
    errors: Remarks = []

    def decode(first: int) -> ImageStore:
        return build_store(source, size, indices=range(first, min(first + DECODE_CHUNK, count)), allow_empty=True)

    firsts = range(start, count, DECODE_CHUNK)
    for first, store in zip(firsts, prefetch_map(decode, firsts, 1, 1, "headway-stream"), strict=True):
        next_index = min(first + DECODE_CHUNK, count)
        num_decoded += len(store.images)
        errors = (errors + store.skipped)[:3]
        yield DecodedChunk(store.images, store.names, store.skipped, next_index)
        if progress:
            progress(next_index, count)
    if not num_decoded:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in errors)
        raise HeadwayError("unreadable-images", f"none of {count} images could be read ({reasons})")


def decode_every_image(source: Source, size: int, hint: str) -> Iterator[Tensor]:
    """All images of a source, as ``decode_chunks`` yields them, n C S S at a time; none may be skipped.

    Args:
        source: The images.
        size: Side in pixels.
        hint: What to do about an image that cannot be read, for the end of the message.

    Raises:
        HeadwayError: An image cannot be read.
    """
    for chunk in decode_chunks(source, size, None, 0, 0):
        if chunk.skipped:
            name, reason = chunk.skipped[0]
            raise HeadwayError("unreadable-image", f"cannot read {name}: {reason}; {hint}")
        yield chunk.images


def source_fingerprint(source: Source) -> dict[str, Any]:
    """Plain data that changes when the images do: their number, a hash of their names in order, the version key."""
    digest = hashlib.sha256()
    for index in range(len(source)):
        digest.update(source.name(index).encode("utf-8", "surrogateescape") + b"\0")
    return {"images": len(source), "names": digest.hexdigest(), "version_key": source.version_key()}
