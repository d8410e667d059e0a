"""Images in tars in the WebDataset layout: KEY.jpg, and KEY.cls with its label.

One pass over each tar records the offsets of its members. After that, reading an image is one read at an offset. No
file is ever extracted to a path from the tar. A gzipped tar cannot be read at an offset, so it is decompressed once
into an unnamed temporary file, which is removed with the source. All tars share a few such files, one per thread.

WebDataset: https://github.com/webdataset/webdataset
"""

import contextlib
import functools
import hashlib
import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np

from headway.data.sources.base import NamedSource, Remarks, sorted_classes
from headway.data.sources.brace_expansion import expand_braces
from headway.data.sources.files import IMAGE_SUFFIXES, ignore_reason, suffix_of
from headway.data.sources.paths import path_kind, regular_file
from headway.data.sources.tar_index import TAR_SUFFIXES, Member, Shard, TarIndex, index_tar, read_member
from headway.data.sources.tar_labels import pair_labels
from headway.errors import HeadwayError

MAX_LABEL_BYTES = 4096
"""Maximum size of a label."""
SIDECAR_SUFFIXES = frozenset((".cls", ".json", ".txt", ".caption"))
"""Suffixes of files that usually accompany an image in such a tar."""


class TarSource(NamedSource):
    """A source of the images in one or more tars, in the order of the tars. An image's name is TAR/MEMBER.

    Args:
        paths: Plain or gzipped tars.
        labeled: Read the labels (True: a label that cannot be matched to one image is an error; None: it is ignored).
            If there is a classes.txt next to a tar, a numeric label is a line number in it, from 0.

    Raises:
        HeadwayError: A tar is damaged, there is no space to decompress one, the tars have no images, or a label is not
            in classes.txt.
    """

    def __init__(self, paths: Sequence[Path], labeled: bool | None):
        self.paths, self.shards = paths, list[Shard]()
        self.ignored: Remarks = []
        names, texts, member_locations = list[str](), list[str | None](), [np.empty((0, 3), np.int64)]
        for path, (shard, members, ignored) in zip(paths, self._index_tars(paths), strict=True):
            images = [member for member in members if suffix_of(member.name) in IMAGE_SUFFIXES]
            others = [(member.name, ignore_reason(member.name)) for member in members if _is_unexpected(member.name)]
            self.ignored += [(f"{path.name}/{name}", reason) for name, reason in (*ignored, *others)]
            names += [f"{path.name}/{member.name}" for member in images]
            locations = [(len(self.shards), member.offset, member.size) for member in images]
            member_locations.append(np.array(locations, np.int64).reshape(-1, 3))
            self.shards.append(shard)
            if labeled is not False:
                label_of, unused = pair_labels([member.name for member in images], members, required=bool(labeled))
                self.ignored += [(f"{path.name}/{name}", reason) for name, reason in unused]
                texts += [_read_label(shard, label_of.get(member.name)) for member in images]
        self.member_locations = np.concatenate(member_locations)  # N 3: shard, offset, size; 24 MB per million images
        if not names:
            raise HeadwayError("no-images", f"no images in {', '.join(map(repr, map(str, paths[:3])))}")
        super().__init__(names, None)
        if labeled is not False:
            self.classes, self.labels = _resolve_classes(paths, names, texts)

    def _index_tars(self, paths: Sequence[Path]) -> Iterator[TarIndex]:
        """Index the tars in several threads, in order. Each thread decompresses to one temporary file of its own."""
        workers = min(len(paths), os.cpu_count() or 1)
        temp_files = contextlib.ExitStack()
        weakref.finalize(self, temp_files.close)

        def index_share(worker: int) -> list[TarIndex]:
            @functools.cache
            def open_temp_file() -> BinaryIO:
                return temp_files.enter_context(tempfile.TemporaryFile())  # stays open until the source is collected

            return [index_tar(path, open_temp_file) for path in paths[worker::workers]]

        with ThreadPoolExecutor(workers) as executor:
            shares = list(executor.map(index_share, range(workers)))
        return (shares[number % workers][number // workers] for number in range(len(paths)))

    def read(self, index: int) -> bytes:
        """The member's bytes. Raises UnreadableImageError as ``read_member`` does."""
        shard, offset, size = self.member_locations[index].tolist()
        return read_member(self.shards[shard], offset, size)

    def version_key(self) -> str:
        """A hash of every tar's path, size and modification time."""
        versions = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in self.paths]
        return hashlib.sha256(repr(versions).encode("utf-8", "surrogateescape")).hexdigest()


def _is_unexpected(name: str) -> bool:
    """Whether a file in a tar is neither an image nor a file that usually accompanies one."""
    return suffix_of(name) not in IMAGE_SUFFIXES | SIDECAR_SUFFIXES


def _read_label(shard: Shard, member: Member | None) -> str | None:
    if member is None:
        return None
    if member.size > MAX_LABEL_BYTES:
        raise HeadwayError(
            "table-invalid",
            f"the label '{member.name}' has {member.size:,} bytes; a class's name has at most {MAX_LABEL_BYTES:,}",
        )
    return read_member(shard, member.offset, member.size).decode("utf-8", "replace").strip() or None


def _resolve_classes(
    paths: Sequence[Path], names: list[str], texts: list[str | None]
) -> tuple[tuple[str, ...], Sequence[str | None]]:
    """The names of the classes and each image's class. A number is a line of classes.txt, any other label is a name."""
    class_file = next((path.parent / "classes.txt" for path in paths if (path.parent / "classes.txt").is_file()), None)
    if class_file is None:
        return sorted_classes(texts), texts
    try:
        classes = tuple(line.strip() for line in class_file.read_text(encoding="utf-8").rstrip().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise HeadwayError("table-invalid", f"cannot read '{class_file}': {error}") from error
    if len(set(classes)) < len(classes):
        raise HeadwayError("table-invalid", f"'{class_file}' lists a class name twice")
    class_of_text = {name: name for name in classes} | {str(number): name for number, name in enumerate(classes)}
    for name, text in zip(names, texts, strict=True):
        if text is not None and text not in class_of_text:
            raise HeadwayError(
                "label-unknown",
                f"the label '{text[:40]}' of '{name}' is not one of the {len(classes)} classes in '{class_file}'",
            )
    return classes, [None if text is None else class_of_text[text] for text in texts]


def _is_brace_pattern(path: Path) -> bool:
    return "{" in str(path) and not path.exists()


def _open_tars(path: Path, labeled: bool | None, group_column: str) -> TarSource:
    names = expand_braces(str(path)) if _is_brace_pattern(path) else [path]
    return TarSource([regular_file(Path(name)) for name in names], labeled)


TAR = path_kind(
    lambda path: path.name.endswith(TAR_SUFFIXES) or _is_brace_pattern(path),
    _open_tars,
    f"tar ({', '.join(TAR_SUFFIXES)})",
)
