"""Scan a data set in one pass: formats, sizes, unreadable files, hashes, channel statistics and thumbnails."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from headway.data.dataset.decode_all import DECODE_CHUNK, bounded_map, content_hash, retry_io, to_pixel_format
from headway.data.decoding.decode import decode_with_notes
from headway.data.decoding.header import ImageHeader, read_header
from headway.data.decoding.pixel_format import LUMA_WEIGHTS, PixelFormat
from headway.data.inspection.near_duplicates import HASH_GRID, perceptual_hash
from headway.data.sources.base import Remarks, Source
from headway.errors import UnreadableImageError, error_reason
from headway.utils.progress import Progress

MIN_DECODED_SIDE = 128
"""Images are decoded so that their shorter side has at least this many pixels (if the image has)."""
STATS_GRID = 64
"""Number of evenly spaced rows and columns of each image that enter the channel statistics."""


class ScanResult(NamedTuple):
    """The result of a scan. Lists and arrays have one entry per readable image, in order, unless stated otherwise.

    Attributes:
        source_indices: Index in the source.
        file_formats: Format by the file's content.
        heights: In pixels, upright.
        widths: In pixels, upright.
        channels: Number of channels in the file, without alpha.
        bit_depths: Bits per channel.
        orientations: EXIF orientation, 1 to 8.
        content_hashes: int64, equal for images of equal pixels.
        perceptual_hashes: uint64, of small Hamming distance for images that look alike (``near_duplicates``).
        mean: C, the mean of each channel over all images, in [0, 1].
        std: C, the standard deviation of each channel, likewise.
        thumbnails: n of C h w: the requested images, uncropped, their longer side S pixels.
        thumbnail_rows: n: positions of the thumbnails' images among the readable images.
        skipped: (name, reason) of each image that could not be read.
        notes: (name, note) with what a user should know about images that were read.
    """

    source_indices: list[int]
    file_formats: list[str]
    heights: np.ndarray
    widths: np.ndarray
    channels: np.ndarray
    bit_depths: np.ndarray
    orientations: np.ndarray
    content_hashes: np.ndarray
    perceptual_hashes: np.ndarray
    mean: list[float]
    std: list[float]
    thumbnails: list[Tensor]
    thumbnail_rows: list[int]
    skipped: Remarks
    notes: Remarks


class _ImageScan(NamedTuple):
    """The scan of one readable image: its header, hashes and sums, and its thumbnail if it was requested."""

    header: ImageHeader
    height: int
    width: int
    content_hash: int
    luma: np.ndarray
    channel_sums: Tensor
    notes: tuple[str, ...]
    thumbnail: Tensor | None

    @property
    def numeric_fields(self) -> tuple[int, ...]:
        """The fields that become arrays of the result, in order."""
        header = self.header
        return self.height, self.width, header.channels, header.bit_depth, header.orientation, self.content_hash


def scan(
    source: Source,
    pixel_format: PixelFormat,
    *,
    thumbnail_indices: Sequence[int] = (),
    thumbnail_side: int = 96,
    progress: Progress | None = None,
    workers: int | None = None,
) -> ScanResult:
    """Decode every image once, without keeping it.

    Args:
        source: The images.
        pixel_format: The data set's pixel format; an image that cannot be converted is skipped, as in training.
        thumbnail_indices: Indices of the images whose thumbnails are returned.
        thumbnail_side: S, in pixels.
        progress: Called with the number of images done and the total.
        workers: Number of threads; None: one per core.
    """
    with_thumbnail, count = set(thumbnail_indices), len(source)
    parts = [range(start, min(start + DECODE_CHUNK, count)) for start in range(0, count, DECODE_CHUNK)]

    def work(part: Iterable[int]) -> list[_ImageScan | str]:
        return [
            _scan_image(source, index, pixel_format, thumbnail_side if index in with_thumbnail else 0) for index in part
        ]

    source_indices, skipped, notes = list[int](), Remarks(), Remarks()
    file_formats, numbers, perceptual_hashes = list[str](), [np.empty((0, 6), np.int64)], [np.empty(0, np.uint64)]
    thumbnails, thumbnail_rows = list[Tensor](), list[int]()
    sums = torch.zeros(3, pixel_format.channels, dtype=torch.float64)
    for part, results in zip(parts, bounded_map(work, parts, workers), strict=True):
        for index, one in zip(part, results, strict=True):
            if isinstance(one, str):
                skipped.append((source.name(index), one))
                continue
            if one.thumbnail is not None:
                thumbnails.append(one.thumbnail)
                thumbnail_rows.append(len(source_indices))
            source_indices.append(index)
            file_formats.append(one.header.file_format)
            notes.extend((source.name(index), note) for note in one.notes)
            sums += one.channel_sums
        read = [one for one in results if not isinstance(one, str)]
        if read:
            numbers.append(np.array([one.numeric_fields for one in read], np.int64))  # n 6
            perceptual_hashes.append(perceptual_hash(np.stack([one.luma for one in read])))  # n
        if progress:
            progress(part.stop, count)
    total = sums[0].clamp_min(1)  # C
    mean = sums[1] / total  # C
    std = (sums[2] / total - mean**2).clamp_min(0).sqrt()  # C
    heights, widths, channels, bit_depths, orientations, content_hashes = np.concatenate(numbers).T  # n each
    return ScanResult(
        source_indices, file_formats, heights, widths, channels, bit_depths, orientations, content_hashes,
        np.concatenate(perceptual_hashes), mean.tolist(), std.tolist(), thumbnails, thumbnail_rows, skipped, notes,
    )  # fmt: skip


def _scan_image(source: Source, index: int, pixel_format: PixelFormat, thumbnail_side: int) -> _ImageScan | str:
    """Scan one image; return the reason as a text if it cannot be read."""
    try:
        given = source.image(index)
        if given is not None:
            channels, height, width = given.shape
            image = to_pixel_format(source, given, pixel_format)
            bits = 1 if given.dtype == torch.bool else given.element_size() * 8
            header = ImageHeader("array", height, width, channels, bits)
        else:
            data = retry_io(lambda: source.read(index))
            image, header = decode_with_notes(data, pixel_format, MIN_DECODED_SIDE), read_header(data)
    except UnreadableImageError as error:
        return str(error)
    except (OSError, ValueError) as error:
        return error_reason(error)
    except MemoryError:
        return "too large for the memory of this machine"
    pixels, long, short = image.pixels, *sorted((header.height, header.width), reverse=True)
    height, width = (long, short) if pixels.shape[1] > pixels.shape[2] else (short, long)  # upright
    small = thumbnail(pixels, thumbnail_side) if thumbnail_side else None
    hashed = content_hash(image.hash_pixels)
    return _ImageScan(header, height, width, hashed, _luma_grid(pixels), _channel_sums(pixels), image.notes, small)


def thumbnail(pixels: Tensor, side: int) -> Tensor:
    """Shrink an image without cropping, so that its longer side has at most ``side`` pixels: C H W -> C h w."""
    scale = min(side / max(pixels.shape[1:]), 1.0)
    if scale == 1.0:
        return pixels
    size = [max(round(length * scale), 1) for length in pixels.shape[1:]]
    return F.interpolate(pixels[None], size, mode="bilinear", antialias=True)[0]  # C h w


def _channel_sums(pixels: Tensor) -> Tensor:
    """3 C: weight 1, mean and mean square of a grid of an image's pixels, in [0, 1]."""
    height, width = pixels.shape[1:]
    grid = pixels[:, :: max(height // STATS_GRID, 1), :: max(width // STATS_GRID, 1)].flatten(1).double()  # C n
    grid = grid / 255 if pixels.dtype == torch.uint8 else grid
    weight = 1 / grid.shape[1]  # every image has the same weight
    return torch.stack([torch.ones(len(grid)), grid.sum(1) * weight, grid.square().sum(1) * weight])


def _luma_grid(pixels: Tensor) -> np.ndarray:
    """HASH_GRID HASH_GRID: the luma of an image, of 255."""
    small = F.interpolate(pixels[None], (HASH_GRID, HASH_GRID), mode="bilinear", antialias=True)  # 1 C h h
    values = small[0].numpy().astype(np.float32) * (1 if pixels.dtype == torch.uint8 else 255)
    return np.tensordot(LUMA_WEIGHTS, values, 1) if len(values) == 3 else values.mean(0)  # HASH_GRID HASH_GRID
