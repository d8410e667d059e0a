"""Pictures in tars of the WebDataset kind: KEY.jpg, beside it KEY.cls with the label.

One pass over each tar notes where its members begin; from then on any picture is one read at an offset. Nothing is
ever extracted by a path from the tar. A gzipped tar cannot be read at an offset, so it is unpacked once into a
temporary file without a name, which is gone when the source is; however many tars there are, a few such files do.

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

from headway.data.files import PICTURES, suffix_of, why_passed
from headway.data.shard import Index, Member, Shard, index_tar, read_bytes
from headway.data.source import in_order
from headway.errors import HeadwayError

LONGEST = 4096
"""Bytes of a label, at most."""
BESIDE = frozenset((".cls", ".json", ".txt", ".caption"))
"""Suffixes of what usually lies beside a picture in such a tar."""


class Tar:
    """Pictures in one or more tars, in the order of the tars; a picture's name is TAR/MEMBER.

    Args:
        paths: Plain or gzipped tars.
        labelled: Read the labels. Where there is a classes.txt beside the tars, numbers are its lines, the first is 0.

    Raises:
        HeadwayError: A tar is damaged, there is no room to unpack one, no picture is there, or a label has no class.
    """

    def __init__(self, paths: Sequence[Path], labelled: bool = False):
        self.paths = paths
        self.shards: list[Shard] = []
        self.names: list[str] = []
        self.passed: list[tuple[str, str]] = []
        texts: list[str | None] = []
        where = [np.empty((0, 3), np.int64)]
        for path, (shard, found, passed) in zip(paths, self._index(paths), strict=True):
            pictures = [member for member in found if suffix_of(member.name) in PICTURES]
            others = [(member.name, why_passed(member.name)) for member in found if _odd(member.name)]
            self.passed += [(f"{path.name}/{name}", reason) for name, reason in (*passed, *others)]
            self.names += [f"{path.name}/{member.name}" for member in pictures]
            places = [(len(self.shards), member.offset, member.size) for member in pictures]
            where.append(np.array(places, np.int64).reshape(-1, 3))
            self.shards.append(shard)
            if labelled:
                given = {_key(member.name): member for member in found if member.name.endswith(".cls")}
                texts += [_text(shard, given.get(_key(member.name))) for member in pictures]
        self.where = np.concatenate(where)  # N 3: which shard, offset, size; 24 MB a million
        if not self.names:
            raise HeadwayError(f"no pictures in {', '.join(map(repr, map(str, paths[:3])))}")
        self.classes: tuple[str, ...] | None = None
        self.labels: Sequence[str | None] = texts
        if labelled:
            self.classes, self.labels = _classes(paths, self.names, texts)

    def _index(self, paths: Sequence[Path]) -> Iterator[Index]:
        """What each tar holds, in order; several are gone through at a time, each thread with a spool of its own."""
        workers = min(len(paths), os.cpu_count() or 1)
        spools = contextlib.ExitStack()
        weakref.finalize(self, spools.close)

        def some(worker: int) -> list[Index]:
            @functools.cache
            def room() -> BinaryIO:
                return spools.enter_context(tempfile.TemporaryFile())  # stays open as long as the source

            return [index_tar(path, room) for path in paths[worker::workers]]

        with ThreadPoolExecutor(workers) as pool:
            parts = list(pool.map(some, range(workers)))
        return (parts[place % workers][place // workers] for place in range(len(paths)))

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        """The member's bytes. Raises Unreadable where the tar ends before they do."""
        shard, offset, size = self.where[index].tolist()
        return read_bytes(self.shards[shard], offset, size)

    def name(self, index: int) -> str:
        """TAR/MEMBER."""
        return self.names[index]

    def label(self, index: int) -> str | None:
        """Its class, where labels were asked for and it has one."""
        return self.labels[index] if self.labels else None

    def stamp(self) -> str:
        """A hash of every tar's path, size and time."""
        found = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in self.paths]
        return hashlib.sha256(repr(found).encode("utf-8", "surrogateescape")).hexdigest()


def _odd(name: str) -> bool:
    """Whether a file in a tar is neither a picture nor what usually lies beside one."""
    return suffix_of(name) not in PICTURES | BESIDE


def _key(name: str) -> str:
    """What a picture and its label share: everything before the first dot of the last part of the path."""
    folder, base = os.path.split(name)
    return f"{folder}/{base.split('.', 1)[0]}"


def _text(shard: Shard, member: Member | None) -> str | None:
    if member and member.size > LONGEST:
        raise HeadwayError(
            f"the label '{member.name}' has {member.size:,} bytes; a class's name has at most {LONGEST:,}"
        )
    if member is None:
        return None
    return read_bytes(shard, member.offset, member.size).decode("utf-8", "replace").strip() or None


def _classes(
    paths: Sequence[Path], names: list[str], texts: list[str | None]
) -> tuple[tuple[str, ...], Sequence[str | None]]:
    """Names of the classes, and each picture's: a number is a line of classes.txt, anything else is a name."""
    listed = next((path.parent / "classes.txt" for path in paths if (path.parent / "classes.txt").is_file()), None)
    if listed is None:
        return in_order(texts), texts
    try:
        classes = tuple(line.strip() for line in listed.read_text(encoding="utf-8").rstrip().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise HeadwayError(f"cannot read '{listed}': {error}") from error
    if len(set(classes)) < len(classes):
        raise HeadwayError(f"'{listed}' gives one name to two classes")
    meaning = {name: name for name in classes} | {str(number): name for number, name in enumerate(classes)}
    for name, text in zip(names, texts, strict=True):
        if text is not None and text not in meaning:
            raise HeadwayError(
                f"the label '{text[:40]}' of '{name}' is none of the {len(classes)} classes in '{listed}'"
            )
    return classes, [None if text is None else meaning[text] for text in texts]
