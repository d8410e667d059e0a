"""Decode a source's images in threads, in order, with retries and content hashes."""

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from headway.data.decoding.decode import DecodedImage, center_crop_resize, decode_with_notes
from headway.data.decoding.pixel_format import RGB, NativeImage, PixelFormat, convert
from headway.data.sources.base import Remarks, Source
from headway.errors import UnreadableImageError, error_reason
from headway.utils.cores import available_cores
from headway.utils.progress import Progress
from headway.utils.threads import ItemT, ResultT, prefetch_map

DECODE_CHUNK = 32
"""Number of images that one task of a thread decodes."""
HASH_PERIODS = (512, 509)
"""Row lengths, in words, for the content hash; they have no common factor."""
MAX_READ_TRIES, RETRY_DELAY_S = 3, 0.2
"""How often a read is tried after transient errors of a disk or network, and seconds before the second try."""
_TRANSIENT_ERRNOS = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.ECONNRESET, errno.EINTR}
"""Error numbers of errors that may be transient."""


class DecodeRecord(NamedTuple):
    """The outcome of decoding a source's images.

    Attributes:
        source_indices: Index in the source of every decoded image, in order.
        content_hashes: Content hash of each, a signed number of 64 bits.
        skipped: (name, reason) of each image that could not be read.
        notes: (name, note) with what a user should know about decoded images.
    """

    source_indices: list[int]
    content_hashes: list[int]
    skipped: Remarks
    notes: Remarks


_DecodedChunk = tuple[Tensor, list[tuple[int, tuple[str, ...]] | str]]
"""The decoded images (n C side side), and for each image its content hash and notes, or why it cannot be read."""


def decode_all(
    source: Source,
    indices: Sequence[int],
    side: int,
    write: Callable[[Tensor], None],
    progress: Progress | None,
    workers: int | None,
    pixel_format: PixelFormat,
    out: Tensor | None,
) -> DecodeRecord:
    """Decode images and pass them to ``write``, n C side side at a time, in the order of ``indices``.

    Args:
        source: The images.
        indices: Indices of the images to decode.
        side: Side of the decoded images, in pixels.
        write: Receives the next images; called in the calling thread only.
        progress: Called with the number of images done and the total.
        workers: Number of threads; None: one per core.
        pixel_format: The pixel format of the decoded images.
        out: len(indices) C side side: images are decoded into their rows in ``indices``, instead of into new memory.
            Skipped images leave gaps, which ``write`` must close.
    """
    record, done = DecodeRecord([], [], [], []), 0
    starts = range(0, len(indices), DECODE_CHUNK)

    def work(start: int) -> _DecodedChunk:
        part = indices[start : start + DECODE_CHUNK]
        shape = len(part), pixel_format.channels, side, side
        rows = torch.empty(shape, dtype=pixel_format.dtype) if out is None else out[start:]
        return _decode_chunk(source, part, pixel_format, rows)

    for start, (images, results) in zip(starts, bounded_map(work, starts, workers), strict=True):
        part = indices[start : start + DECODE_CHUNK]
        for index, result in zip(part, results, strict=True):
            if isinstance(result, str):
                record.skipped.append((source.name(index), result))
            else:
                record.source_indices.append(index)
                record.content_hashes.append(result[0])
                record.notes.extend((source.name(index), note) for note in result[1])
        if len(images):
            write(images)  # n C side side
        done += len(part)
        if progress:
            progress(done, len(indices))
    return record


def load_image(source: Source, index: int, pixel_format: PixelFormat = RGB, min_side: int = 0) -> DecodedImage:
    """Read and decode one image: C H W in the pixel format, with notes.

    Args:
        source: The images.
        index: Index of the image.
        pixel_format: The pixel format of the decoded image.
        min_side: Pixels that its shorter side must have; 0: full size.

    Raises:
        UnreadableImageError: With the reason.
    """
    try:
        pixels = source.image(index)
        if pixels is None:
            return decode_with_notes(retry_io(lambda: source.read(index)), pixel_format, min_side)
        return to_pixel_format(source, pixels, pixel_format)
    except (OSError, ValueError) as error:  # ValueError: the name is not a valid file name
        raise UnreadableImageError(error_reason(error)) from error


def to_pixel_format(source: Source, pixels: Tensor, pixel_format: PixelFormat) -> DecodedImage:
    """Convert the output of a source's ``image`` (C H W). Raises UnreadableImageError if that is impossible."""
    is_rgb8 = pixel_format.is_rgb8 and pixels.dtype == torch.uint8 and len(pixels) == RGB.channels
    if is_rgb8 or pixel_format == source.decoded_format:
        return DecodedImage(pixels)
    return DecodedImage(*convert(NativeImage(pixels.permute(1, 2, 0).numpy()), pixel_format))


def retry_io(read: Callable[[], ResultT]) -> ResultT:
    """Return ``read()``, retried after transient errors of a disk or network. Raises the last OSError."""
    for tried in range(1, MAX_READ_TRIES):
        try:
            return read()
        except OSError as error:
            if error.errno not in _TRANSIENT_ERRNOS:
                raise
            time.sleep(RETRY_DELAY_S * tried)
    return read()


def content_hash(image: Tensor) -> int:
    """A signed 64-bit hash of an image's pixels (C H W), whatever its file. Other images hardly ever share it.

    The bytes, in the order H W C, are read as words of 64 bits. For each p of HASH_PERIODS the words are written into
    rows of p words and the columns are summed modulo 2^64. The hash is the truncated SHA-256 of these sums. So it
    depends on every pixel and on its position: two words contribute to equal columns for both p only if they are
    512 x 509 words apart. It takes a seventh of the time of decoding 500 x 375 pixels.
    """
    height, width = image.shape[-2:]
    flat = image.permute(1, 2, 0).contiguous().numpy().reshape(-1).view(np.uint8)  # H*W*C*bytes
    words = flat[: len(flat) // 8 * 8].view(np.uint64)
    digest = hashlib.sha256(f"{height}x{width}".encode())
    digest.update(flat[8 * len(words) :].data)
    for period in HASH_PERIODS:
        whole = len(words) // period * period
        digest.update(words[:whole].reshape(-1, period).sum(0, dtype=np.uint64).data)  # period
        digest.update(words[whole:].data)
    return int.from_bytes(digest.digest()[:8], "little", signed=True)


def _decode_chunk(source: Source, indices: Sequence[int], pixel_format: PixelFormat, out: Tensor) -> _DecodedChunk:
    """Decode images into the first rows of ``out`` (m C side side)."""
    side, read = out.shape[-1], 0
    results: list[tuple[int, tuple[str, ...]] | str] = []
    for index in indices:
        try:
            image = load_image(source, index, pixel_format, side)
            center_crop_resize(image.pixels, side, out[read])
            results.append((content_hash(image.hash_pixels), image.notes))
            read += 1
        except UnreadableImageError as error:
            results.append(str(error))
        except MemoryError:
            results.append("too large for the memory of this machine")
    return out[:read], results


def decoding_threads() -> int:
    """Cores that this process may run on, divided by the number of torchrun's processes on this machine."""
    # srun does not set LOCAL_WORLD_SIZE but binds each process to its own cores.
    return max(available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1)


def bounded_map(fn: Callable[[ItemT], ResultT], items: Iterable[ItemT], workers: int | None) -> Iterator[ResultT]:
    """``map`` in threads, in order. Only a few items are in progress at a time, which bounds the memory."""
    threads = workers or decoding_threads()
    return prefetch_map(fn, items, threads, 2 * threads, "headway-decode")
