"""One pass over a data set: what every file is, what is wrong with it, and what it looks like from afar."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from headway.data.decode import read_picture
from headway.data.form import LUMA, Form
from headway.data.ingest import TOGETHER, ahead, content_hash, formed, patiently
from headway.data.look import Look, look
from headway.data.source import Source, Unreadable, reason_of
from headway.data.twins import GRID, look_hash

SIDE = 128
"""Pixels that the shorter side of a picture must have to be looked at."""
SAMPLED = 64
"""Rows and columns of each picture, spread evenly, that its channel statistics are taken of."""


class Seen(NamedTuple):
    """What the pass saw: one entry a readable picture, in order, unless said otherwise.

    Attributes:
        kept: Index in the source.
        kinds: Formats, by content.
        heights: Upright, in pixels.
        widths: Likewise.
        channels: As the file has them, opacity not counted.
        bits: A channel.
        turns: EXIF orientation, 1 to 8.
        contents: int64, equal where all pixels are equal.
        looks: uint64, near where pictures look alike (``data.twins``).
        mean: C, over all pictures of the data set's channels, in [0, 1].
        std: C, likewise.
        sheet: n of C h w: the pictures asked for, whole, the longer side S pixels.
        shown: n: which of the readable pictures those are.
        skipped: (name, reason) of what could not be read.
        notes: (name, note) of what a person should know of the rest.
    """

    kept: list[int]
    kinds: list[str]
    heights: np.ndarray
    widths: np.ndarray
    channels: np.ndarray
    bits: np.ndarray
    turns: np.ndarray
    contents: np.ndarray
    looks: np.ndarray
    mean: list[float]
    std: list[float]
    sheet: list[Tensor]
    shown: list[int]
    skipped: list[tuple[str, str]]
    notes: list[tuple[str, str]]


class _One(NamedTuple):
    """One readable picture: what its header says, its hashes and sums, and the picture where it is to be shown."""

    header: Look
    height: int
    width: int
    content: int
    lightness: np.ndarray
    sums: Tensor
    notes: tuple[str, ...]
    shown: Tensor | None

    @property
    def numbers(self) -> tuple[int, ...]:
        """What is counted of it."""
        header = self.header
        return self.height, self.width, header.channels, header.bits, header.orientation, self.content


def inspect(
    source: Source,
    form: Form,
    *,
    show: Sequence[int] = (),
    side: int = 96,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> Seen:
    """Decode every picture once and forget it.

    Args:
        source: The pictures.
        form: Channels and range of the data set; what cannot take it is skipped, as it would be in training.
        show: Indices whose picture is given back.
        side: S, in pixels.
        progress: Told how many pictures of how many are done.
        workers: Threads; none: one a core.
    """
    wanted, count = set(show), len(source)
    parts = [range(start, min(start + TOGETHER, count)) for start in range(0, count, TOGETHER)]

    def work(part: Iterable[int]) -> list[_One | str]:
        return [_one(source, index, form, side if index in wanted else 0) for index in part]

    kept, skipped, notes = list[int](), list[tuple[str, str]](), list[tuple[str, str]]()
    kinds, numbers, looks = list[str](), [np.empty((0, 6), np.int64)], [np.empty(0, np.uint64)]
    sheet, shown, sums = list[Tensor](), list[int](), torch.zeros(3, form.channels, dtype=torch.float64)
    for part, results in zip(parts, ahead(work, parts, workers), strict=True):
        for index, one in zip(part, results, strict=True):
            if isinstance(one, str):
                skipped.append((source.name(index), one))
                continue
            if one.shown is not None:
                sheet.append(one.shown)
                shown.append(len(kept))
            kept.append(index)
            kinds.append(one.header.kind)
            notes.extend((source.name(index), note) for note in one.notes)
            sums += one.sums
        read = [one for one in results if not isinstance(one, str)]
        if read:
            numbers.append(np.array([one.numbers for one in read], np.int64))  # n 6
            looks.append(look_hash(np.stack([one.lightness for one in read])))  # n
        if progress:
            progress(part.stop, count)
    total = sums[0].clamp_min(1)  # C
    mean = sums[1] / total  # C
    std = (sums[2] / total - mean**2).clamp_min(0).sqrt()  # C
    heights, widths, channels, bits, turns, contents = np.concatenate(numbers).T  # n each
    return Seen(
        kept, kinds, heights, widths, channels, bits, turns, contents, np.concatenate(looks), mean.tolist(),
        std.tolist(), sheet, shown, skipped, notes,
    )  # fmt: skip


def _one(source: Source, index: int, form: Form, side: int) -> _One | str:
    """Everything about one picture, or the reason why it cannot be had."""
    try:
        if draw := getattr(source, "image", None):
            given: Tensor = draw(index)
            channels, height, width = given.shape
            picture = formed(source, given, form)
            header = Look(
                "array", height, width, channels, 1 if given.dtype == torch.bool else given.element_size() * 8
            )
        else:
            data = patiently(lambda: source.read(index))
            picture, header = read_picture(data, form, SIDE), look(data)
    except Unreadable as error:
        return str(error)
    except (OSError, ValueError) as error:
        return reason_of(error)
    except MemoryError:
        return "too large for the memory of this machine"
    pixels, long, short = picture.pixels, *sorted((header.height, header.width), reverse=True)
    height, width = (long, short) if pixels.shape[1] > pixels.shape[2] else (short, long)  # upright
    shown = thumbnail(pixels, side) if side else None
    same = content_hash(picture.same)
    return _One(header, height, width, same, _lightness(pixels), _sums(pixels), picture.notes, shown)


def thumbnail(pixels: Tensor, side: int) -> Tensor:
    """The whole picture, its longer side ``side`` pixels where it is longer: C H W -> C h w."""
    scale = min(side / max(pixels.shape[1:]), 1.0)
    if scale == 1.0:
        return pixels
    size = [max(round(length * scale), 1) for length in pixels.shape[1:]]
    return F.interpolate(pixels[None], size, mode="bilinear", antialias=True)[0]  # C h w


def _sums(pixels: Tensor) -> Tensor:
    """3 C: how many numbers, their sum and the sum of their squares, of a grid of pixels, in [0, 1]."""
    height, width = pixels.shape[1:]
    grid = pixels[:, :: max(height // SAMPLED, 1), :: max(width // SAMPLED, 1)].flatten(1).double()  # C n
    grid = grid / 255 if pixels.dtype == torch.uint8 else grid
    weight = 1 / grid.shape[1]  # every picture counts alike
    return torch.stack([torch.ones(len(grid)), grid.sum(1) * weight, grid.square().sum(1) * weight])


def _lightness(pixels: Tensor) -> np.ndarray:
    """GRID GRID, of 255."""
    small = F.interpolate(pixels[None], (GRID, GRID), mode="bilinear", antialias=True)[0]  # C GRID GRID
    values = small.numpy().astype(np.float32) * (1 if pixels.dtype == torch.uint8 else 255)
    return np.tensordot(LUMA, values, 1) if len(values) == 3 else values.mean(0)  # GRID GRID
