"""The index of one tar: its members' offsets and sizes, and reads at them. No file is extracted to a path."""

import gzip
import os
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from headway.data.sources.files import MAX_FILE_BYTES
from headway.errors import HeadwayError, UnreadableImageError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
"""Suffixes of tar files."""
MAX_UNPACK_RATIO, MIN_UNPACK_LIMIT_BYTES = 100, 1 << 26
"""A gzipped tar may decompress to the larger of these: a multiple of its size, or bytes. Images hardly compress."""
_seek_lock = threading.Lock()


class Shard(NamedTuple):
    """One tar. A plain tar is opened for each read; a gzipped tar is read from a temporary file that stays open.

    Attributes:
        path: The tar.
        size_and_mtime: Size in bytes and modification time in ns when the tar was indexed.
        unpacked_fd: Descriptor of the temporary file that holds the decompressed tar; None: the tar is plain.
    """

    path: Path
    size_and_mtime: tuple[int, int]
    unpacked_fd: int | None


class Member(NamedTuple):
    """A file in a tar: its name, and the offset and size of its bytes."""

    name: str
    offset: int
    size: int


class TarIndex(NamedTuple):
    """The content of a tar: its regular files in order, and (name, reason) of each ignored entry."""

    shard: Shard
    members: list[Member]
    ignored: list[tuple[str, str]]


def index_tar(path: Path, open_temp_file: Callable[[], BinaryIO]) -> TarIndex:
    """Index a tar in one pass.

    Args:
        path: A plain or gzipped tar.
        open_temp_file: Returns the temporary file; a gzipped tar is decompressed to its end.

    Raises:
        HeadwayError: The tar cannot be opened, is damaged or decompresses to far more than its size, or there is no
            space for it.
    """
    gzipped = False
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            size_and_mtime = (status.st_size, status.st_mtime_ns)
            gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not gzipped:
                return _index_members(file, Shard(path, size_and_mtime, None))
            temp_file = open_temp_file()
            start = temp_file.seek(0, os.SEEK_END)
            with gzip.open(file) as stream:
                _unpack(stream, temp_file, max(MAX_UNPACK_RATIO * size_and_mtime[0], MIN_UNPACK_LIMIT_BYTES), path)
            temp_file.flush()
            temp_file.seek(start)
            return _index_members(temp_file, Shard(path, size_and_mtime, temp_file.fileno()))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise HeadwayError("archive-damaged", f"'{path}' is damaged: {error}; fetch it again") from error
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise HeadwayError("archive-damaged", f"'{path}' is not a complete tar: {error}; fetch it again") from error
    except OSError as error:
        hint = f"; it is decompressed into '{tempfile.gettempdir()}': free space there, or set TMPDIR to another folder"
        raise HeadwayError(
            "archive-damaged", f"cannot read '{path}': {error.strerror or error}{hint if gzipped else ''}"
        ) from error


def read_member(shard: Shard, offset: int, size: int) -> bytes:
    """The bytes of a member.

    Raises:
        UnreadableImageError: The tar is truncated or has changed since it was indexed, or the member is larger than
            MAX_FILE_BYTES.
        OSError: The tar cannot be read.
    """
    if size > MAX_FILE_BYTES:
        raise UnreadableImageError(f"{size:,} bytes are too many for an image (at most {MAX_FILE_BYTES:,})")
    if shard.unpacked_fd is not None:
        data = _read_at(shard.unpacked_fd, size, offset)
    else:
        with shard.path.open("rb") as file:  # buffered, so a short read of a network file system is repeated
            status = os.fstat(file.fileno())
            if (status.st_size, status.st_mtime_ns) != shard.size_and_mtime:
                raise UnreadableImageError("its tar has changed since it was opened")
            file.seek(offset)
            data = file.read(size)
    if len(data) < size:
        raise UnreadableImageError("the tar ends within it")
    return data


def _index_members(file: BinaryIO, shard: Shard) -> TarIndex:
    """List the regular files that are not hidden, and the other entries with the reason why they are ignored."""
    index = TarIndex(shard, [], [])
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for info in _iter_entries(tar):
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                index.ignored.append((info.name, "not a regular file in its tar; links are not followed"))
            elif any(part.startswith(".") and part not in (".", "..") for part in info.name.split("/")):
                index.ignored.append((info.name, "hidden"))
            else:
                index.members.append(Member(info.name, info.offset_data, info.size))
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile stops silently at a damaged entry
            raise tarfile.ReadError(f"the entry at byte {tar.offset:,} is damaged")
    return index


def _iter_entries(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The entries of a tar. ``tarfile`` would keep all of them, at about a kilobyte each, so they are dropped here."""
    while (info := tar.next()) is not None:
        yield info
        tar.members.clear()  # type: ignore[attr-defined]  # public, but not in the stubs


def _unpack(stream: gzip.GzipFile, temp_file: BinaryIO, max_bytes: int, path: Path) -> None:
    written = 0
    while block := stream.read(1 << 20):
        written += len(block)
        if written > max_bytes:
            raise HeadwayError(
                "archive-damaged",
                f"'{path}' decompresses to more than {max_bytes:,} bytes, far more than images do; "
                f"decompress it yourself if you trust it",
            )
        temp_file.write(block)


def _read_at(descriptor: int, size: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    with _seek_lock:  # Windows has no pread: one file position per descriptor, so one reader at a time
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, size)
