"""Decoded images in a memory-mapped file, whose pages the system reads from disk when they are used."""

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from headway.data.dataset.decode_all import DecodeRecord
from headway.data.decoding.pixel_format import PixelFormat
from headway.data.sources.base import Source
from headway.errors import HeadwayError
from headway.utils.files import atomic_write, read_json, remove_stale_temps, write_json
from headway.utils.locks import file_lock

CACHE_VERSION = 3
"""Version of the two cache files; part of their names."""
ImageWriter = Callable[[Tensor], None]


def cache_name(source: Source, indices: Sequence[int], side: int, pixel_format: PixelFormat) -> str | None:
    """The name of the cache files of these images in this size, format and version. None: they cannot be cached."""
    version_key = source.version_key()
    if version_key is None:
        return None
    digest = hashlib.sha256(json.dumps([CACHE_VERSION, side, pixel_format, version_key]).encode())
    for index in indices:
        digest.update(source.name(index).encode("utf-8", "surrogateescape") + b"\0")
    return f"images-{digest.hexdigest()[:24]}"


def cached_memmap(
    folder: Path, name: str, side: int, fill: Callable[[ImageWriter], DecodeRecord], pixel_format: PixelFormat
) -> tuple[Tensor, DecodeRecord]:
    """Map the cached images of a folder; if they are missing or incomplete, decode them into the folder first.

    Processes that need the same images wait for the first of them.

    Args:
        folder: The cache folder; it is created if it is missing.
        name: The output of ``cache_name``.
        side: Side of the stored images, in pixels.
        fill: Decodes all images and passes them to the function it receives.
        pixel_format: The pixel format of the stored images.

    Returns:
        The images, N C side side, which must never be written to, and the outcome of decoding.

    Raises:
        HeadwayError: There is no space left, or the folder is not writable.
    """
    lock = folder / f".{name}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise HeadwayError("cannot-write", f"cannot make the cache '{folder}': {error.strerror or error}") from error
    pixels = folder / f"{name}.{'uint8' if pixel_format.value_range is None else 'float32'}"
    record_file = folder / f"{name}.json"
    with file_lock(lock) as acquired:
        if acquired:  # no other process is writing, so all temporary files are left from killed processes
            remove_stale_temps(folder, name_prefix=f"{name}.")
        record = _read_valid_record(pixels, record_file, pixel_format.image_bytes(side))
        if record is None:
            records: list[DecodeRecord] = []
            atomic_write(pixels, lambda path: records.append(_write_pixels(path, fill)))
            record = records[0]
            write_json(record_file, record._asdict())  # last, because the pixels are valid only with their record
    return _open_memmap(pixels, len(record.source_indices), side, pixel_format), record


def temporary_memmap(
    side: int, fill: Callable[[ImageWriter], DecodeRecord], pixel_format: PixelFormat
) -> tuple[Tensor, DecodeRecord]:
    """As ``cached_memmap``, in a temporary file of this process, which disappears when the process ends."""
    with tempfile.TemporaryDirectory(prefix="headway-", ignore_cleanup_errors=True) as folder:
        return cached_memmap(Path(folder), "images", side, fill, pixel_format)  # the mapping outlives its file's name


def _write_pixels(path: Path, fill: Callable[[ImageWriter], DecodeRecord]) -> DecodeRecord:
    try:
        with path.open("wb") as file:

            def write(images: Tensor) -> None:
                file.write(images.numpy().data)

            return fill(write)
    except BaseException:  # an interruption must not leave gigabytes behind either
        path.unlink(missing_ok=True)
        raise


def _read_valid_record(pixels: Path, record_file: Path, bytes_per_image: int) -> DecodeRecord | None:
    try:
        record = DecodeRecord(**read_json(record_file))
        complete = pixels.stat().st_size == len(record.source_indices) * bytes_per_image
        skipped, notes = ([(name, text) for name, text in pairs] for pairs in (record.skipped, record.notes))
    except (HeadwayError, OSError, TypeError, ValueError):
        return None
    return record._replace(skipped=skipped, notes=notes) if complete else None


def _open_memmap(path: Path, count: int, side: int, pixel_format: PixelFormat) -> Tensor:
    shape = (count, pixel_format.channels, side, side)
    if not count:
        return torch.empty(shape, dtype=pixel_format.dtype)
    flat = torch.from_file(str(path), shared=True, size=math.prod(shape), dtype=pixel_format.dtype)
    return flat.reshape(shape)  # N C side side
