"""``ImageStore``: a source's images, decoded once to equal squares, in memory or in a memory-mapped file."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from headway.data.dataset.decode_all import DecodeRecord, decode_all
from headway.data.dataset.memmap import ImageWriter, cache_name, cached_memmap, temporary_memmap
from headway.data.dataset.sample_stats import format_reasons, get_sample_stats
from headway.data.dataset.sample_stats import median_short_side as median_short_side
from headway.data.decoding.pixel_format import RGB, PixelFormat
from headway.data.sources.base import Remarks, Source
from headway.errors import HeadwayError
from headway.utils.launcher import launcher_env
from headway.utils.progress import Progress


class ImageStore(NamedTuple):
    """Decoded images.

    Attributes:
        images: N C side side, uint8 or float32 in [0, 1], the output of ``center_crop_resize``. It may be a
            memory-mapped file, so never write to it.
        names: N, the source's names.
        labels: N, int64 in 0..K-1, -1 for an image without a label; None if no image has one.
        classes: The names of the K classes.
        groups: N, int64, one number per group; None if the source has no groups.
        content_hashes: N, int64, equal for images of equal pixels, whatever their files.
        source_indices: N, the index in the source of each image.
        skipped: (name, reason) of each image that could not be read.
        notes: (name, note) with what a user should know about images that were read.
        pixel_format: Channels and value range.
        fingerprint: SHA-256 of the side, the pixel format and the content hashes. It identifies these images, in this
            order and size.
    """

    images: Tensor
    names: list[str]
    labels: Tensor | None
    classes: tuple[str, ...]
    groups: Tensor | None
    content_hashes: Tensor
    source_indices: list[int]
    skipped: Remarks
    notes: Remarks
    pixel_format: PixelFormat
    fingerprint: str

    @property
    def side(self) -> int:
        """Side of the stored images, in pixels."""
        return self.images.shape[-1]


def split_groups(store: ImageStore) -> Tensor:
    """N, int64: equal for images that no split may separate, because they share a group or have equal pixels."""
    if store.groups is None:
        return store.content_hashes
    count = len(store.content_hashes)
    group, same = (np.unique(keys.numpy(), return_inverse=True)[1] for keys in (store.groups, store.content_hashes))
    edges = np.ones(count), (group, count + same)  # each image links its group and its content hash
    _, component = connected_components(coo_array(edges, shape=(2 * count, 2 * count)), directed=False)
    return torch.from_numpy(component[group].astype(np.int64))  # N


def build_store(
    source: Source,
    side: int,
    *,
    pixel_format: PixelFormat | None = None,
    indices: Sequence[int] | None = None,
    cache_folder: Path | None = None,
    memory_limit: int | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    allow_empty: bool = False,
) -> ImageStore:
    """Decode a source's images, in order. Images that cannot be read are skipped and listed.

    Args:
        source: The images.
        side: Side of the stored images in pixels, 1 or more.
        pixel_format: The pixel format of all images; an image that cannot be converted is skipped. None: the source's
            own format, or the one that most of its images have.
        indices: Indices of the images to decode; None: all.
        cache_folder: Folder for a memory-mapped file, used if the images exceed the limit; None: a temporary folder.
        memory_limit: Bytes that the images may take in memory; None: ``memory_budget()``.
        progress: Called with the number of images decoded and the total.
        workers: Number of threads; None: one per core.
        allow_empty: Return an empty store, instead of an error, if no image can be read.

    Raises:
        HeadwayError: No image could be read, or there is no space left.
        ValueError: ``side`` is below 1.
    """
    if side < 1:
        raise ValueError(f"side must be 1 or more, got {side}")
    chosen = range(len(source)) if indices is None else indices
    pixel_format = pixel_format or resolve_pixel_format(source, allow_empty)

    def fill(write: ImageWriter, out: Tensor | None = None) -> DecodeRecord:
        return decode_all(source, chosen, side, write, progress, workers, pixel_format, out)

    limit = memory_budget() if memory_limit is None else memory_limit
    if len(chosen) * pixel_format.image_bytes(side) <= limit:
        images, record = _decode_in_memory(len(chosen), side, pixel_format, fill)
    else:
        name = cache_name(source, chosen, side, pixel_format) if cache_folder else None
        if cache_folder and name:
            images, record = cached_memmap(cache_folder, name, side, fill, pixel_format)
        else:
            images, record = temporary_memmap(side, fill, pixel_format)
    if not record.source_indices and not allow_empty:
        raise HeadwayError(
            "unreadable-images", f"none of {len(chosen)} images could be read{format_reasons(record.skipped)}"
        )
    return _make_store(source, images, record, pixel_format)


def resolve_pixel_format(source: Source, allow_empty: bool = False) -> PixelFormat:
    """The source's own pixel format, else the one that fits a sample of its images."""
    if source.pixel_format:
        return source.pixel_format
    try:
        return get_sample_stats(source).pixel_format
    except HeadwayError:
        if allow_empty:
            return RGB
        raise


def _decode_in_memory(
    count: int, side: int, pixel_format: PixelFormat, fill: Callable[..., DecodeRecord]
) -> tuple[Tensor, DecodeRecord]:
    """Decode into one array of NumPy, which requests huge pages from the system: fewer page faults."""
    dtype = np.uint8 if pixel_format.value_range is None else np.float32
    rows, written = torch.from_numpy(np.empty((count, pixel_format.channels, side, side), dtype)), 0

    def write(decoded: Tensor) -> None:
        nonlocal written
        if decoded.data_ptr() != rows[written:].data_ptr():  # an image before these was skipped: close the gap
            rows[written : written + len(decoded)] = decoded.clone()
        written += len(decoded)

    record = fill(write, rows)
    return rows[:written], record


def _make_store(source: Source, images: Tensor, record: DecodeRecord, pixel_format: PixelFormat) -> ImageStore:
    classes = source.classes or ()
    class_index = {name: number for number, name in enumerate(classes)}
    labels = [source.label(index) for index in record.source_indices] if classes else []
    groups = [source.group(index) for index in record.source_indices]
    hashes = torch.tensor(record.content_hashes, dtype=torch.int64)  # N
    return ImageStore(
        images=images,
        names=[source.name(index) for index in record.source_indices],
        labels=torch.tensor([-1 if label is None else class_index[label] for label in labels]) if any(labels) else None,
        classes=classes,
        groups=_group_ids(groups) if any(groups) else None,
        content_hashes=hashes,
        source_indices=record.source_indices,
        skipped=record.skipped,
        notes=record.notes,
        pixel_format=pixel_format,
        fingerprint=_fingerprint(images.shape[-1], pixel_format, hashes),
    )


def _fingerprint(side: int, pixel_format: PixelFormat, hashes: Tensor) -> str:
    shape = f"{side} " if pixel_format.is_rgb8 else f"{side} {pixel_format.channels} {pixel_format.value_range} "
    return hashlib.sha256(shape.encode() + hashes.numpy().astype("<i8").tobytes()).hexdigest()


def _group_ids(groups: list[str | None]) -> Tensor:
    """N, int64: one number per group; an image without a group is a group of its own."""
    keys = [f"alone {number}" if name is None else f"group {name}" for number, name in enumerate(groups)]
    return torch.from_numpy(np.unique(keys, return_inverse=True)[1].astype(np.int64))


def _container_memory_limit(root: Path = Path("/")) -> int:
    """Memory limit of this container or cluster job in bytes, from Linux's cgroups; 2^62 if there is none.

    Control groups are nested; the smallest limit of all enclosing groups applies.
    """
    mounts = {"": root / "sys/fs/cgroup", "memory": root / "sys/fs/cgroup/memory"}  # cgroup version 2, version 1
    limits, groups = [1 << 62], list(mounts.values())
    with contextlib.suppress(OSError, ValueError):  # not Linux
        for line in (root / "proc/self/cgroup").read_text(errors="surrogateescape").splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in mounts.keys() & controllers.split(","):
                group = mounts[controller] / path.strip("/")
                groups += [group, *group.parents]
    for group in groups:
        for file in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
                limits.append(int((group / file).read_text()))
    return min(limits)


def memory_budget() -> int:
    """Bytes that images may take in memory: a quarter of the available memory, shared by this machine's processes."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return min(physical, _container_memory_limit()) // 4 // launcher_env().local_world_size
    except (AttributeError, ValueError, OSError):  # not POSIX
        return 2 << 30
