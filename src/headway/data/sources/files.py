"""A source of image files below a folder. Folders, tables and single images are opened as this source."""

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headway.data.sources.base import NamedSource, SourceKind
from headway.data.sources.paths import path_kind, regular_file
from headway.errors import UnreadableImageError

IMAGE_SUFFIXES = frozenset(
    f".{kind}"
    for kinds in (
        "jpg jpeg jpe jfif png apng webp gif bmp dib",
        "tif tiff btf ppm pgm pbm pnm pfm avif jp2 j2k heic heif npy",
    )
    for kind in kinds.split()
)
"""Lower-case suffixes of files that count as images; the content decides which decoder reads them."""

CAMERA_RAW_SUFFIXES = frozenset(
    f".{kind}" for kind in ["cr2", "cr3", "nef", "arw", "dng", "raf", "orf", "rw2", "pef", "srw"]
)
"""Suffixes of camera raw formats."""
MAX_FILE_BYTES = 1 << 30
"""Larger files are not read: one would take the memory of thousands of images."""


def suffix_of(name: str) -> str:
    """The suffix of a file name, with its dot, in lower case."""
    return os.path.splitext(name)[1].lower()


def ignore_reason(name: str) -> str:
    """The reason why a file whose name is not that of an image is ignored."""
    suffix = suffix_of(name)
    if suffix == ".svg":
        return "SVG is a vector format; convert it to PNG"
    if suffix in CAMERA_RAW_SUFFIXES:
        return "a camera raw format; convert it to JPEG, PNG or TIFF"
    return f"{suffix} is not a supported image suffix" if suffix else "no suffix; images need one, such as .jpg"


def read_regular_file(path: Path) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: The file is missing, or there is no permission to read it.
        UnreadableImageError: It is a folder, a pipe or a device (which may never end), or larger than MAX_FILE_BYTES.
    """
    # O_NONBLOCK, because opening a pipe would block.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImageError("not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise UnreadableImageError(
                f"{status.st_size:,} bytes are too many for an image (at most {MAX_FILE_BYTES:,})"
            )
        data = os.read(descriptor, status.st_size)
        while len(data) < status.st_size and (more := os.read(descriptor, status.st_size - len(data))):
            data += more  # a network file system may return fewer bytes than requested
        return data
    finally:
        os.close(descriptor)


class FileSource(NamedSource):
    """A source of image files.

    Args:
        root: The folder to which the names are relative.
        names: Paths with slashes.
        labels: One label per image; None: no labels.
        groups: One group per image; None: no groups.
        ignored: (name, reason) of each file status among the images that is not an image.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        labels: Sequence[str | None] | None = None,
        groups: Sequence[str | None] | None = None,
        ignored: Sequence[tuple[str, str]] = (),
    ):
        super().__init__(names, labels)
        self.root, self.groups, self.ignored = root, groups, ignored

    def read(self, index: int) -> bytes:
        """The file's bytes. Raises OSError or UnreadableImageError as ``read_regular_file`` does."""
        return read_regular_file(self.root / self.names[index])

    def group(self, index: int) -> str | None:
        """The image's group; None without groups."""
        return None if self.groups is None else self.groups[index]

    def version_key(self) -> str:
        """A hash of every file's size and modification time."""
        digest = hashlib.sha256(os.fsencode(self.root.absolute()))
        for name in self.names:
            try:
                status = (self.root / name).stat()
                digest.update(b"%d %d " % (status.st_size, status.st_mtime_ns))
            except (OSError, ValueError):
                digest.update(b"none ")
        return digest.hexdigest()


def _open_image_file(path: Path, labeled: bool | None, group_column: str) -> FileSource:
    labels = [None] if labeled is not False else None
    return FileSource(regular_file(path).parent, [path.name], labels)


def _is_path_list(data: Any) -> bool:
    return isinstance(data, (list, tuple)) and bool(data) and all(isinstance(item, (str, Path)) for item in data)


IMAGE_FILE = path_kind(lambda path: suffix_of(path.name) in IMAGE_SUFFIXES, _open_image_file, "image")
PATH_LIST = SourceKind(
    _is_path_list, lambda data, labeled, group_column: FileSource(Path(), [str(item) for item in data])
)
