"""One tar, opened: which bytes of which descriptor its members are, and how to read them."""

import gzip
import os
import shutil
import tarfile
import tempfile
import threading
import zlib
from pathlib import Path
from typing import NamedTuple

from headway.data.source import Unreadable
from headway.errors import HeadwayError

_seeking = threading.Lock()


class Member(NamedTuple):
    """A file in a tar: its name there, and which bytes of which descriptor it is."""

    name: str
    descriptor: int
    offset: int
    size: int


def open_tar(path: Path) -> int:
    """A descriptor of the plain tar's bytes, for the caller to close; a gzipped one is unpacked into a temporary file.

    Raises:
        HeadwayError: It cannot be opened, is damaged, or there is no room to unpack it.
    """
    packed = False
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            if not packed:
                return os.dup(file.fileno())
        with gzip.open(path) as stream, tempfile.TemporaryFile() as plain:
            shutil.copyfileobj(stream, plain, 1 << 20)
            plain.flush()
            return os.dup(plain.fileno())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise HeadwayError(f"'{path}' is damaged: {error}; fetch it again") from error
    except OSError as error:
        hint = f"; it is unpacked into '{tempfile.gettempdir()}': make room there, or set TMPDIR to a place that has it"
        raise HeadwayError(f"cannot read '{path}': {error.strerror or error}{hint if packed else ''}") from error


def members(path: Path, descriptor: int) -> list[Member]:
    """The regular files of a tar that are not hidden, in its order. Raises HeadwayError where it is no whole tar."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        with os.fdopen(os.dup(descriptor), "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            return [
                Member(info.name, descriptor, info.offset_data, info.size)
                for info in tar
                if info.isreg() and not info.issparse() and not os.path.basename(info.name).startswith(".")
            ]
    except (tarfile.TarError, OSError, ValueError) as error:
        raise HeadwayError(f"'{path}' is no whole tar: {error}; fetch it again") from error


def read_member(member: Member) -> bytes:
    """The member's bytes. Raises Unreadable where the tar ends before they do."""
    if hasattr(os, "pread"):
        data = os.pread(member.descriptor, member.size, member.offset)
    else:  # Windows: one position a descriptor, so one reader at a time
        with _seeking:
            os.lseek(member.descriptor, member.offset, os.SEEK_SET)
            data = os.read(member.descriptor, member.size)
    if len(data) < member.size:
        raise Unreadable("the tar ends within it")
    return data
