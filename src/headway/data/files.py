"""A source of single files below a folder: what a walk, a table or one picture comes to."""

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from headway.data.source import Unreadable, in_order

PICTURES = frozenset(
    f".{kind}"
    for kinds in ("jpg jpeg jpe jfif png webp gif bmp dib", "tif tiff ppm pgm pbm pnm avif jp2 heic heif")
    for kind in kinds.split()
)
"""Suffixes, in lower case, of files that are looked at; what is inside decides how they are read."""


LARGEST_FILE = 1 << 30
"""Bytes beyond which a file is not read: it would take the memory of thousands of pictures."""


class Files:
    """Pictures that are files.

    Args:
        root: The folder that names are relative to.
        names: Paths with slashes.
        labels: One a picture; none: nothing is labelled.
        groups: One a picture.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        labels: Sequence[str | None] | None = None,
        groups: Sequence[str | None] | None = None,
    ):
        self.root, self.names, self.labels, self.groups = root, names, labels, groups
        self.classes = None if labels is None else in_order(labels)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        """The file's bytes. Raises OSError, or Unreadable for what is no regular file: opening a pipe would hang."""
        path = self.root / self.names[index]
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable("not a regular file")
        if found.st_size > LARGEST_FILE:
            raise Unreadable(f"{found.st_size:,} bytes are too many for a picture (at most {LARGEST_FILE:,})")
        return path.read_bytes()

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
