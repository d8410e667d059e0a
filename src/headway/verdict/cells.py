"""A folder of finished results, a small JSON file each, written whole: what is there is never computed again."""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from headway.errors import HeadwayError
from headway.files import read_json, write_json

TERMS = "terms.json"
Keep = Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]
"""Given a name and how to compute its result, gives the result."""


class Cells:
    """Results by name, below a folder that remembers on which terms they were computed.

    Args:
        folder: Made by ``begin``.
        terms: Plain data that the results depend on.
        resume: Whether the folder may exist.

    Raises:
        HeadwayError: The folder exists and ``resume`` is not set, holds something else, or was begun on other terms.
    """

    def __init__(self, folder: Path, terms: dict[str, Any], resume: bool = False):
        self.folder, self.terms = folder, terms
        check_free(folder, resume)
        if (folder / TERMS).is_file():
            earlier = read_json(folder / TERMS)
            changed = [key for key in terms if earlier.get(key) != terms[key]]
            if changed:
                raise HeadwayError(
                    f"{folder} was begun with another {', '.join(changed)}; repeat its command, or choose another --out"
                )

    def begin(self) -> None:
        """Write the terms down, if they aren't yet: from here on the folder is taken."""
        if not (self.folder / TERMS).is_file():
            write_json(self.folder / TERMS, self.terms)

    def path(self, name: str) -> Path:
        """Where the result of this name lies, or will."""
        return self.folder / "cells" / f"{plain_name(name)}.json"

    def get(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of this name, computed and written if it is not there yet."""
        path = self.path(name)
        if not path.is_file():
            write_json(path, compute())
        answer: dict[str, Any] = read_json(path)
        return answer


def check_free(folder: Path, resume: bool) -> None:
    """Raise HeadwayError where the folder holds something else, or results though ``resume`` is not set."""
    ours = (folder / TERMS).is_file()
    if not ours and (folder.is_file() or (folder.is_dir() and any(folder.iterdir()))):
        raise HeadwayError(f"{folder} exists and holds something else; choose another --out")
    if ours and not resume:
        raise HeadwayError(f"{folder} exists; add --resume to go on with it, or choose another --out")


def in_memory() -> Keep:
    """Results by name, each computed once, for those who want no folder."""
    kept: dict[str, dict[str, Any]] = {}

    def keep(name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if name not in kept:
            kept[name] = compute()
        return kept[name]

    return keep


def plain_name(name: str) -> str:
    """A name for a file: letters, digits, dots and underscores stay, whatever else there is becomes a hyphen."""
    return re.sub(r"[^\w.]+", "-", name)


def pack(right: np.ndarray) -> dict[str, Any]:
    """Right or wrong, any shape, as plain data: a bit a picture."""
    bits = np.packbits(right.astype(bool).ravel())
    return {"shape": list(right.shape), "bits": base64.b64encode(bits.tobytes()).decode()}


def unpack(packed: dict[str, Any]) -> np.ndarray:
    """Undo ``pack``: bool, of the old shape."""
    count = int(np.prod(packed["shape"]))
    bits = np.frombuffer(base64.b64decode(packed["bits"]), dtype=np.uint8)
    return np.unpackbits(bits, count=count).astype(bool).reshape(packed["shape"])
