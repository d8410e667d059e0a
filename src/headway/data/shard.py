"""One tar: which bytes its members are, and how to read them. Nothing is ever extracted by a path from the tar."""

import gzip
import os
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from headway.data.files import LARGEST_FILE
from headway.data.source import Unreadable
from headway.errors import HeadwayError

RATIO, LEAST = 100, 1 << 26
"""A gzipped tar may unpack to so many times its size, or to so many bytes; pictures hardly shrink at all."""
_seeking = threading.Lock()


class Shard(NamedTuple):
    """Where a tar's bytes are: in its own file, opened for each read, or in a spool that stays open.

    Attributes:
        path: The tar.
        stamp: Its size and time when it was indexed.
        spool: Descriptor of the file that it was unpacked into; None: it is plain.
    """

    path: Path
    stamp: tuple[int, int]
    spool: int | None


class Member(NamedTuple):
    """A file in a tar: its name there, and which bytes it is."""

    name: str
    offset: int
    size: int


class Index(NamedTuple):
    """What a tar holds: its files in order, and (name, reason) of what is none."""

    shard: Shard
    members: list[Member]
    passed: list[tuple[str, str]]


def index_tar(path: Path, room: Callable[[], BinaryIO]) -> Index:
    """Go through a tar once.

    Args:
        path: Plain or gzipped.
        room: Gives the temporary file to whose end a gzipped one is unpacked.

    Raises:
        HeadwayError: It cannot be opened, is damaged, unpacks to far more than its size, or there is no room for it.
    """
    packed = False
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            stamp = (found.st_size, found.st_mtime_ns)
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not packed:
                return _index(file, Shard(path, stamp, None))
            spool = room()
            start = spool.seek(0, os.SEEK_END)
            with gzip.open(file) as stream:
                _unpack(stream, spool, max(RATIO * stamp[0], LEAST), path)
            spool.flush()
            spool.seek(start)
            return _index(spool, Shard(path, stamp, spool.fileno()))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise HeadwayError(f"'{path}' is damaged: {error}; fetch it again") from error
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise HeadwayError(f"'{path}' is no whole tar: {error}; fetch it again") from error
    except OSError as error:
        hint = f"; it is unpacked into '{tempfile.gettempdir()}': make room there, or set TMPDIR to a place that has it"
        raise HeadwayError(f"cannot read '{path}': {error.strerror or error}{hint if packed else ''}") from error


def read_bytes(shard: Shard, offset: int, size: int) -> bytes:
    """A member's bytes.

    Raises:
        Unreadable: The tar ends before they do or has changed since it was indexed, or they are too many for a picture.
        OSError: The tar cannot be read.
    """
    if size > LARGEST_FILE:
        raise Unreadable(f"{size:,} bytes are too many for a picture (at most {LARGEST_FILE:,})")
    if shard.spool is not None:
        data = _read_at(shard.spool, size, offset)
    else:
        with shard.path.open("rb") as file:  # buffered: it asks again where a network gives less than it has
            found = os.fstat(file.fileno())
            if (found.st_size, found.st_mtime_ns) != shard.stamp:
                raise Unreadable("its tar has changed since it was opened")
            file.seek(offset)
            data = file.read(size)
    if len(data) < size:
        raise Unreadable("the tar ends within it")
    return data


def _index(file: BinaryIO, shard: Shard) -> Index:
    """The regular files that are not hidden; whatever else there is has a reason."""
    index = Index(shard, [], [])
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for info in _frugal(tar):
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                index.passed.append((info.name, "no regular file of its tar; links are not followed"))
            elif any(part.startswith(".") and part not in (".", "..") for part in info.name.split("/")):
                index.passed.append((info.name, "hidden"))
            else:
                index.members.append(Member(info.name, info.offset_data, info.size))
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # Python ends quietly where an entry is damaged
            raise tarfile.ReadError(f"the entry at byte {tar.offset:,} is damaged")
    return index


def _frugal(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """A tar's entries; it would remember them all, at a kilobyte each."""
    while (info := tar.next()) is not None:
        yield info
        tar.members.clear()  # type: ignore[attr-defined]  # public, but not in the stubs


def _unpack(stream: gzip.GzipFile, spool: BinaryIO, most: int, path: Path) -> None:
    written = 0
    while block := stream.read(1 << 20):
        written += len(block)
        if written > most:
            raise HeadwayError(
                f"'{path}' unpacks to more than {most:,} bytes, {RATIO} times its size, as no pictures do; "
                f"unpack it yourself if you trust it"
            )
        spool.write(block)


def _read_at(descriptor: int, size: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    with _seeking:  # Windows: one position a descriptor, so one reader at a time
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, size)
