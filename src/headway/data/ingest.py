"""Decode many pictures at once, in threads, in order."""

import errno
import hashlib
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from headway.data.decode import Picture, fit, read_picture
from headway.data.form import RGB, Form, Raw, bring
from headway.data.source import Source, Unreadable, reason_of
from headway.threads import pool

Given = TypeVar("Given")
Made = TypeVar("Made")

TOGETHER = 32
"""Pictures a thread decodes at a time."""
PERIODS = (512, 509)
"""Words in the rows that a picture is written into for its content hash; no two have a common factor."""
TRIES, PATIENCE = 3, 0.2
"""How often a file is read that a disk or network fails to give, and seconds of waiting before the second try."""
_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.ECONNRESET, errno.EINTR}
"""Faults that may be gone a moment later."""


class Record(NamedTuple):
    """What came of the pictures.

    Attributes:
        kept: Index in the source of every picture that was read, in order.
        hashes: Its content hash, 64 bits signed.
        skipped: (name, reason) of the others.
        notes: (name, note) of what a person should know of those that were read.
    """

    kept: list[int]
    hashes: list[int]
    skipped: list[tuple[str, str]]
    notes: list[tuple[str, str]]


_Part = tuple[Tensor, list[tuple[int, tuple[str, ...]] | str]]
"""The pictures (n C side side); and for each its content hash and notes, or the reason why it cannot be had."""


def ingest(
    source: Source,
    indices: Sequence[int],
    side: int,
    write: Callable[[Tensor], None],
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
    form: Form = RGB,
    room: Tensor | None = None,
) -> Record:
    """Decode pictures and hand them on, n C side side at a time, in the order of ``indices``.

    Args:
        source: The pictures.
        indices: Which of them.
        side: Stored side in pixels.
        write: Takes the next pictures; called from this thread alone.
        progress: Told how many pictures of how many are done.
        workers: Threads; none: one a core.
        form: Channels and range.
        room: len(indices) C side side, into which pictures are decoded at the places that they have in ``indices``,
            rather than into memory of their own; whoever writes closes the gaps that skipped ones leave.
    """
    record, done = Record([], [], [], []), 0
    starts = range(0, len(indices), TOGETHER)

    def work(start: int) -> _Part:
        part = indices[start : start + TOGETHER]
        own = torch.empty(len(part), form.channels, side, side, dtype=form.dtype) if room is None else room[start:]
        return _read(source, part, form, own)

    for start, (pictures, results) in zip(starts, ahead(work, starts, workers), strict=True):
        part = indices[start : start + TOGETHER]
        for index, result in zip(part, results, strict=True):
            if isinstance(result, str):
                record.skipped.append((source.name(index), result))
            else:
                record.kept.append(index)
                record.hashes.append(result[0])
                record.notes.extend((source.name(index), note) for note in result[1])
        if len(pictures):
            write(pictures)  # n C side side
        done += len(part)
        if progress:
            progress(done, len(indices))
    return record


def load(source: Source, index: int, form: Form = RGB, side: int = 0) -> Picture:
    """One picture, decoded: C H W in the form asked for, with notes.

    Args:
        source: The pictures.
        index: Which of them.
        form: Channels and range.
        side: Pixels that its shorter side must have; 0: all that there are.

    Raises:
        Unreadable: With the reason.
    """
    draw = getattr(source, "image", None)
    try:
        if not draw:
            return read_picture(patiently(lambda: source.read(index)), form, side)
        return formed(source, draw(index), form)
    except (OSError, ValueError) as error:  # a name may hold what no file's name can
        raise Unreadable(reason_of(error)) from error


def formed(source: Source, pixels: Tensor, form: Form) -> Picture:
    """What a source's ``image`` gave (C H W), in the form asked for. Raises Unreadable where it cannot be."""
    plain = form.plain and pixels.dtype == torch.uint8 and len(pixels) == RGB.channels
    if plain or form == getattr(source, "stored", None):
        return Picture(pixels)
    return Picture(*bring(Raw(pixels.permute(1, 2, 0).numpy()), form))


def patiently(read: Callable[[], Made]) -> Made:
    """What ``read`` gives, tried again where a disk or network may only have stumbled. Raises the last OSError."""
    for tried in range(1, TRIES):
        try:
            return read()
        except OSError as error:
            if error.errno not in _PASSING:
                raise
            time.sleep(PATIENCE * tried)
    return read()


def content_hash(picture: Tensor) -> int:
    """A signed 64-bit number that equal pictures share whatever files they lie in, and hardly any others.

    SHA-256, cut short, of sums modulo 2^64: the picture's bytes, C H W taken as H W C, are words of 64 bits, written
    into rows of p words, of which the columns are added up, once for each p of PERIODS. So every pixel counts, and its
    place does: two words add to the same columns twice over only where they lie 512 x 509 words apart. It takes a
    seventh of what decoding 500 x 375 pixels does.
    """
    height, width = picture.shape[-2:]
    flat = picture.permute(1, 2, 0).contiguous().numpy().reshape(-1).view(np.uint8)  # H*W*C*bytes
    words = flat[: len(flat) // 8 * 8].view(np.uint64)
    digest = hashlib.sha256(f"{height}x{width}".encode())
    digest.update(flat[8 * len(words) :].data)
    for period in PERIODS:
        whole = len(words) // period * period
        digest.update(words[:whole].reshape(-1, period).sum(0, dtype=np.uint64).data)  # period
        digest.update(words[whole:].data)
    return int.from_bytes(digest.digest()[:8], "little", signed=True)


def _read(source: Source, indices: Sequence[int], form: Form, room: Tensor) -> _Part:
    """Pictures, decoded into the first places of ``room`` (m C side side)."""
    side, read = room.shape[-1], 0
    results: list[tuple[int, tuple[str, ...]] | str] = []
    for index in indices:
        try:
            picture = load(source, index, form, side)
            fit(picture.pixels, side, room[read])
            results.append((content_hash(picture.same), picture.notes))
            read += 1
        except Unreadable as error:
            results.append(str(error))
        except MemoryError:
            results.append("too large for the memory of this machine")
    return room[:read], results


def cores() -> int:
    """Cores for this process: those that it may run on, shared with the processes that torchrun started beside it."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # srun binds each process to cores of its own instead
    return max(mine // beside, 1)


def ahead(work: Callable[[Given], Made], items: Iterable[Given], workers: int | None) -> Iterator[Made]:
    """``map`` in threads, in order, with a few items under way and no more: memory stays in bounds."""
    threads = workers or cores()
    waiting, under_way = iter(items), deque[Future[Made]]()
    with pool(threads, "headway-decode") as crew:
        under_way.extend(crew.submit(work, item) for item in itertools.islice(waiting, 2 * threads))
        while under_way:
            made = under_way.popleft().result()
            under_way.extend(crew.submit(work, item) for item in itertools.islice(waiting, 1))
            yield made
