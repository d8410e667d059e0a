"""A folder of finished results, one small JSON file each, written atomically: no finished result is computed again."""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from headway.errors import HeadwayError
from headway.utils.files import read_json, write_json

CONFIG_FILE = "config.json"
GetOrCompute = Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]
"""From a name, and a function that computes its result, to the result."""


class ResultCache:
    """Results by name, in a folder that records the configuration they were computed with.

    Args:
        folder: Made by ``begin``.
        config: Plain data that the results depend on.
        resume: Whether the folder may exist.

    Raises:
        HeadwayError: The folder exists and ``resume`` is not set, it holds something else, or was begun with another
            configuration.
    """

    def __init__(self, folder: Path, config: dict[str, Any], resume: bool = False):
        self.folder, self.config = folder, config
        check_out_folder(folder, resume)
        if (folder / CONFIG_FILE).is_file():
            earlier = read_json(folder / CONFIG_FILE)
            changed = [key for key in config if earlier.get(key) != config[key]]
            if changed:
                raise HeadwayError(
                    "resume-differs",
                    f"{folder} was begun with another {', '.join(changed)}; repeat its command, "
                    "or choose another --out",
                )

    def begin(self) -> None:
        """Write the configuration, unless it is there already: from here on the folder is in use."""
        if not (self.folder / CONFIG_FILE).is_file():
            write_json(self.folder / CONFIG_FILE, self.config)

    def path(self, name: str) -> Path:
        """The file of the result of this name."""
        return self.folder / "results" / f"{safe_file_name(name)}.json"

    def get_or_compute(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of this name, computed and written if it is not there yet."""
        path = self.path(name)
        if not path.is_file():
            write_json(path, compute())
        return read_json(path)


def check_out_folder(folder: Path, resume: bool) -> None:
    """Raise HeadwayError where the folder holds something else, or results although ``resume`` is not set."""
    is_cache = (folder / CONFIG_FILE).is_file()
    if not is_cache and (folder.is_file() or (folder.is_dir() and any(folder.iterdir()))):
        raise HeadwayError("output-exists", f"{folder} exists and holds something else; choose another --out")
    if is_cache and not resume:
        raise HeadwayError(
            "output-unfinished", f"{folder} exists; add --resume to continue it, or choose another --out"
        )


def in_memory_cache() -> GetOrCompute:
    """A cache without a folder, which computes each result once."""
    results: dict[str, dict[str, Any]] = {}

    def get_or_compute(name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if name not in results:
            results[name] = compute()
        return results[name]

    return get_or_compute


def safe_file_name(name: str) -> str:
    """A name of a file: letters, digits, dots and underscores stay, and all else becomes a hyphen."""
    return re.sub(r"[^\w.]+", "-", name)


def pack_bits(correct: np.ndarray) -> dict[str, Any]:
    """Boolean values of any shape as plain data, one bit each."""
    bits = np.packbits(correct.astype(bool).ravel())
    return {"shape": list(correct.shape), "bits": base64.b64encode(bits.tobytes()).decode()}


def unpack_bits(packed: dict[str, Any]) -> np.ndarray:
    """The inverse of ``pack_bits``: bool, of the original shape."""
    count = int(np.prod(packed["shape"]))
    bits = np.frombuffer(base64.b64decode(packed["bits"]), dtype=np.uint8)
    return np.unpackbits(bits, count=count).astype(bool).reshape(packed["shape"])


def run_folder(result_cache: ResultCache, title: str, seed: int) -> Path:
    """The folder of a pretraining."""
    return result_cache.folder / "runs" / f"{safe_file_name(title)}-{seed}"


def is_finished(run: Path) -> bool:
    """Whether a pretraining has finished its run folder."""
    return (run / "run.json").is_file() and read_json(run / "run.json").get("status") == "finished"
