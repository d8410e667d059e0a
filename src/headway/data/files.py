"""A source of single files below a folder: what a walk, a table or one picture comes to."""

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from headway.data.source import Unreadable, in_order

PICTURES = frozenset(
    f".{kind}"
    for kinds in (
        "jpg jpeg jpe jfif png apng webp gif bmp dib",
        "tif tiff btf ppm pgm pbm pnm pfm avif jp2 j2k heic heif npy",
    )
    for kind in kinds.split()
)
"""Suffixes, in lower case, of files that are looked at; what is inside decides how they are read."""

RAW = frozenset(f".{kind}" for kind in ["cr2", "cr3", "nef", "arw", "dng", "raf", "orf", "rw2", "pef", "srw"])
"""Suffixes of what cameras record before they make a picture of it."""
LARGEST_FILE = 1 << 30
"""Bytes beyond which a file is not read: it would take the memory of thousands of pictures."""


def suffix_of(name: str) -> str:
    """What comes after the last dot, with it, in lower case."""
    return os.path.splitext(name)[1].lower()


def why_passed(name: str) -> str:
    """Why a file that is no picture by its name is not looked at."""
    suffix = suffix_of(name)
    if suffix == ".svg":
        return "SVG draws with lines; convert it to PNG"
    if suffix in RAW:
        return "a camera's raw data; develop it to JPEG, PNG or TIFF"
    return f"{suffix} is no suffix of a picture that is read" if suffix else "no suffix; pictures are known by theirs"


def read_whole(path: Path) -> bytes:
    """A regular file's bytes.

    Raises:
        OSError: It is not there, or may not be read.
        Unreadable: A pipe, a folder or a device, which might never end; or more than LARGEST_FILE bytes.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # opening a pipe would wait
    descriptor = os.open(path, flags)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable("not a regular file")
        if found.st_size > LARGEST_FILE:
            raise Unreadable(f"{found.st_size:,} bytes are too many for a picture (at most {LARGEST_FILE:,})")
        data = os.read(descriptor, found.st_size)
        while len(data) < found.st_size and (more := os.read(descriptor, found.st_size - len(data))):
            data += more  # a network file system may give less at a time than it has
        return data
    finally:
        os.close(descriptor)


class Files:
    """Pictures that are files.

    Args:
        root: The folder that names are relative to.
        names: Paths with slashes.
        labels: One a picture; none: nothing is labelled.
        groups: One a picture.
        passed: (name, reason) of what lies beside the pictures and is none.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        labels: Sequence[str | None] | None = None,
        groups: Sequence[str | None] | None = None,
        passed: Sequence[tuple[str, str]] = (),
    ):
        self.root, self.names, self.labels, self.groups, self.passed = root, names, labels, groups, passed
        self.classes = None if labels is None else in_order(labels)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        """The file's bytes. Raises OSError, or Unreadable as ``read_whole`` does."""
        return read_whole(self.root / self.names[index])

    def name(self, index: int) -> str:
        """The path relative to the root."""
        return self.names[index]

    def label(self, index: int) -> str | None:
        """Its label, where there are labels."""
        return None if self.labels is None else self.labels[index]

    def group(self, index: int) -> str | None:
        """Its group, where there are groups."""
        return None if self.groups is None else self.groups[index]

    def stamp(self) -> str:
        """A hash of every file's size and time."""
        digest = hashlib.sha256(os.fsencode(self.root.absolute()))
        for name in self.names:
            try:
                found = (self.root / name).stat()
                digest.update(b"%d %d " % (found.st_size, found.st_mtime_ns))
            except (OSError, ValueError):
                digest.update(b"none ")
        return digest.hexdigest()
