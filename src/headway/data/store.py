"""Pictures decoded once: square, in one form, in memory, or in a mapped file where memory is short."""

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

from headway.data.cache import Write, cache_name, mapped, passing
from headway.data.form import RGB, Form
from headway.data.ingest import Record, ingest
from headway.data.source import Source, group_of
from headway.data.survey import natural_size as natural_size
from headway.data.survey import reasons, surveyed
from headway.distributed import announced
from headway.errors import HeadwayError


class Store(NamedTuple):
    """Decoded pictures.

    Attributes:
        images: N C side side, uint8 or float32 in [0, 1], as ``data.decode.fit`` makes them; may be a mapped file:
            never write to it.
        names: N, as the source calls them.
        labels: N, int64 in 0..K-1, -1 where a picture has none; None where nothing is labelled.
        classes: The names of the K classes.
        groups: N, int64: pictures of equal number belong together; None where the source knows of no groups.
        hashes: N, int64: equal where two pictures have equal pixels, whatever files they lie in.
        kept: N, the index in the source of each.
        skipped: (name, reason) of pictures that could not be read.
        notes: (name, note) of what a person should know of those that were read.
        form: Channels and range.
        fingerprint: SHA-256 over side, form and hashes: the same pictures in the same order at the same size.
    """

    images: Tensor
    names: list[str]
    labels: Tensor | None
    classes: tuple[str, ...]
    groups: Tensor | None
    hashes: Tensor
    kept: list[int]
    skipped: list[tuple[str, str]]
    notes: list[tuple[str, str]]
    form: Form
    fingerprint: str

    @property
    def side(self) -> int:
        """Stored side in pixels."""
        return self.images.shape[-1]


def groups_of(store: Store) -> Tensor:
    """N, int64: pictures of equal number stay on one side of a split, being of one group or equal in every pixel."""
    if store.groups is None:
        return store.hashes
    count = len(store.hashes)
    group, same = (np.unique(keys.numpy(), return_inverse=True)[1] for keys in (store.groups, store.hashes))
    edges = np.ones(count), (group, count + same)  # a picture ties its group to its pixels
    _, component = connected_components(coo_array(edges, shape=(2 * count, 2 * count)), directed=False)
    return torch.from_numpy(component[group].astype(np.int64))  # N


def build_store(
    source: Source,
    side: int,
    *,
    form: Form | None = None,
    indices: Sequence[int] | None = None,
    cache: Path | None = None,
    memory_limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
    allow_empty: bool = False,
) -> Store:
    """Decode pictures, in order; what cannot be read is skipped and named.

    Args:
        source: The pictures.
        side: Stored side in pixels, 1 or more.
        form: Channels and range of all pictures, what cannot take it is skipped; none: the source's own, or as most of
            its pictures have.
        indices: Which of them; none: all.
        cache: Folder for a mapped file, used where the pictures exceed the limit; none: a temporary one.
        memory_limit: Bytes that pictures may take in memory; none: a quarter of the machine's.
        progress: Told how many pictures of how many are decoded.
        workers: Threads; none: one a core.
        allow_empty: Do without an error where not one could be read.

    Raises:
        HeadwayError: Not one picture could be read, or there is no space left.
        ValueError: A side below 1.
    """
    if side < 1:
        raise ValueError(f"side must be 1 or more, got {side}")
    chosen = range(len(source)) if indices is None else indices
    form = form or form_wanted(source, allow_empty)

    def fill(write: Write, room: Tensor | None = None) -> Record:
        return ingest(source, chosen, side, write, progress, workers, form, room)

    size = len(chosen) * form.channels * side * side * form.dtype.itemsize
    if size <= (quarter_of_memory() if memory_limit is None else memory_limit):
        images, record = _in_memory(len(chosen), side, form, fill)
    else:
        name = cache_name(source, chosen, side, form) if cache else None
        images, record = mapped(cache, name, side, fill, form) if cache and name else passing(side, fill, form)
    if not record.kept and not allow_empty:
        raise HeadwayError(f"none of {len(chosen)} pictures could be read{reasons(record.skipped)}")
    return _describe(source, images, record, form)


def form_wanted(source: Source, allow_empty: bool = False) -> Form:
    """The source's own form, or the one that a sample of its pictures has."""
    own: Form | None = getattr(source, "form", None)
    if own:
        return own
    try:
        return surveyed(source).form
    except HeadwayError:
        if allow_empty:
            return RGB
        raise


def _in_memory(count: int, side: int, form: Form, fill: Callable[..., Record]) -> tuple[Tensor, Record]:
    """Decoded where they stay, in memory of NumPy, which asks the system for large pages: fewer to wait for."""
    kind = np.uint8 if form.dtype == torch.uint8 else np.float32
    rows, written = torch.from_numpy(np.empty((count, form.channels, side, side), kind)), 0

    def write(some: Tensor) -> None:
        nonlocal written
        if some.data_ptr() != rows[written:].data_ptr():  # one before it was skipped
            rows[written : written + len(some)] = some.clone()
        written += len(some)

    record = fill(write, rows)
    return rows[:written], record


def _describe(source: Source, images: Tensor, record: Record, form: Form) -> Store:
    classes = source.classes or ()
    number = {name: place for place, name in enumerate(classes)}
    labels = [source.label(index) for index in record.kept] if classes else []
    groups = [group_of(source, index) for index in record.kept]
    hashes = torch.tensor(record.hashes, dtype=torch.int64)  # N
    return Store(
        images=images,
        names=[source.name(index) for index in record.kept],
        labels=torch.tensor([-1 if label is None else number[label] for label in labels]) if any(labels) else None,
        classes=classes,
        groups=_numbered(groups) if any(groups) else None,
        hashes=hashes,
        kept=record.kept,
        skipped=record.skipped,
        notes=record.notes,
        form=form,
        fingerprint=_fingerprint(images.shape[-1], form, hashes),
    )


def _fingerprint(side: int, form: Form, hashes: Tensor) -> str:
    shape = f"{side} " if form.plain else f"{side} {form.channels} {form.span} "
    return hashlib.sha256(shape.encode() + hashes.numpy().astype("<i8").tobytes()).hexdigest()


def _numbered(groups: list[str | None]) -> Tensor:
    """N, int64: equal names get equal numbers; a picture without a group is one of its own."""
    keys = [f"group {name}" if name is not None else f"alone {place}" for place, name in enumerate(groups)]
    return torch.from_numpy(np.unique(keys, return_inverse=True)[1].astype(np.int64))


def _container_memory(root: Path = Path("/")) -> int:
    """Bytes that this container, or job of a cluster, may take, where Linux says so; else more than anybody has.

    Each group of processes lies within others, and the smallest limit of all of them holds.
    """
    mounts = {"": root / "sys/fs/cgroup", "memory": root / "sys/fs/cgroup/memory"}  # version 2, version 1
    limits, groups = [1 << 62], list(mounts.values())
    with contextlib.suppress(OSError, ValueError):  # another system
        for line in (root / "proc/self/cgroup").read_text(errors="surrogateescape").splitlines():
            _, kinds, path = line.split(":", 2)
            for kind in mounts.keys() & kinds.split(","):
                group = mounts[kind] / path.strip("/")
                groups += [group, *group.parents]
    for group in groups:
        for file in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):  # none, or "max"
                limits.append(int((group / file).read_text()))
    return min(limits)


def quarter_of_memory() -> int:
    """Bytes that pictures may take in memory: each process of a machine holds pictures of its own."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return min(physical, _container_memory()) // 4 // announced().local
    except (AttributeError, ValueError, OSError):  # not POSIX
        return 2 << 30
