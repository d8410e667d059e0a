"""Decoded pictures in a file that is mapped into memory: what does not fit is read page by page as it is used."""

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from headway.data.form import RGB, Form
from headway.data.ingest import Record
from headway.data.source import Source, stamp_of
from headway.errors import HeadwayError
from headway.files import alone, read_json, sweep, write_json, write_whole

FORMAT = 3
"""Of the two files; goes into their names."""
Write = Callable[[Tensor], None]


def cache_name(source: Source, indices: Sequence[int], side: int, form: Form = RGB) -> str | None:
    """The name under which these pictures are kept, another for other pictures, sizes and times. None: never kept."""
    stamp = stamp_of(source)
    if stamp is None:
        return None
    kind = form if form.pages else form[:2]  # as caches were called before there were pages
    digest = hashlib.sha256(json.dumps([FORMAT, side, kind, stamp]).encode())
    for index in indices:
        digest.update(source.name(index).encode("utf-8", "surrogateescape") + b"\0")
    return f"pictures-{digest.hexdigest()[:24]}"


def mapped(
    folder: Path, name: str, side: int, fill: Callable[[Write], Record], form: Form = RGB
) -> tuple[Tensor, Record]:
    """Pictures kept in a folder: mapped if they are there and whole, else decoded into it.

    Processes that want the same pictures wait for the first of them.

    Args:
        folder: Where; made if need be.
        name: As ``cache_name`` gives it.
        side: Stored side in pixels.
        fill: Decodes everything, handing pictures to the function it is given.
        form: Channels and range.

    Returns:
        N C side side, never to be written to, and what came of the pictures.

    Raises:
        HeadwayError: No space left, or the folder cannot be written to.
    """
    lock = folder / f".{name}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise HeadwayError(f"cannot make the cache '{folder}': {error.strerror or error}") from error
    pixels, notes = folder / f"{name}.{'uint8' if form.span is None else 'float32'}", folder / f"{name}.json"
    with alone(lock) as sure:
        if sure:
            sweep(folder, of=f"{name}.")  # torn ones of processes that were killed: none that lives is filling
        record = _kept(pixels, notes, _bytes(side, form))
        if record is None:
            records: list[Record] = []
            write_whole(pixels, lambda path: records.append(_fill(path, fill)))
            record = records[0]
            write_json(notes, record._asdict())  # last: without it the pixels do not count
    return _map(pixels, len(record.kept), side, form), record


def passing(side: int, fill: Callable[[Write], Record], form: Form = RGB) -> tuple[Tensor, Record]:
    """As ``mapped``, in a temporary file that nobody else sees and that goes when the process does."""
    with tempfile.TemporaryDirectory(prefix="headway-", ignore_cleanup_errors=True) as folder:
        return mapped(Path(folder), "pictures", side, fill, form)  # a mapping outlives the name of its file


def _fill(path: Path, fill: Callable[[Write], Record]) -> Record:
    try:
        with path.open("wb") as file:

            def write(some: Tensor) -> None:
                file.write(some.numpy().data)

            return fill(write)
    except BaseException:  # an interruption too must not leave gigabytes behind
        path.unlink(missing_ok=True)
        raise


def _kept(pixels: Path, notes: Path, picture: int) -> Record | None:
    try:
        record = Record(**read_json(notes))
        whole = pixels.stat().st_size == len(record.kept) * picture
        skipped, notes_ = ([(name, text) for name, text in pairs] for pairs in (record.skipped, record.notes))
    except (HeadwayError, OSError, TypeError, ValueError):
        return None
    return record._replace(skipped=skipped, notes=notes_) if whole else None


def _map(path: Path, count: int, side: int, form: Form) -> Tensor:
    shape = (count, form.channels, side, side)
    if not count:
        return torch.empty(shape, dtype=form.dtype)
    flat = torch.from_file(str(path), shared=True, size=math.prod(shape), dtype=form.dtype)
    return flat.reshape(shape)  # N C side side


def _bytes(side: int, form: Form) -> int:
    return form.channels * side * side * form.dtype.itemsize
