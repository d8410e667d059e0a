"""Atomic file writes (write under a temporary name, flush to disk, rename) and JSON."""

import contextlib
import hashlib
import itertools
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from headway.errors import HeadwayError


def fsync_path(path: Path) -> None:
    """Flush a file or folder to disk. Where the system cannot flush folders, nothing is done for them."""
    is_folder = path.is_dir()
    with contextlib.suppress(OSError) if is_folder else contextlib.nullcontext():
        handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def file_sha256(path: Path) -> str:
    """The file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file or folder, then rename it to ``path``. On an error nothing is left behind.

    Raises:
        HeadwayError: There is no space left, or the location is not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        for file in sorted(temporary.rglob("*")) if temporary.is_dir() else [temporary]:
            fsync_path(file)
        fsync_path(temporary)
        os.replace(temporary, path)
        fsync_path(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink(missing_ok=True)
        if isinstance(error, (OSError, SafetensorError)):
            reason = getattr(error, "strerror", None) or error
            raise HeadwayError(
                "cannot-write", f"cannot write {path}: {reason}; free some space or choose another location"
            ) from error
        raise


def refuse_existing(out: Path) -> Path:
    """``out``, where nothing exists there yet. Raises HeadwayError otherwise."""
    if out.exists():
        raise HeadwayError("output-exists", f"{out} exists and is not overwritten; choose another --out")
    return out


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is a temporary one that a killed ``atomic_write`` left behind."""
    return name.startswith(".") and name.endswith(".tmp")


def remove_stale_temps(*folders: Path, name_prefix: str = "") -> None:
    """Remove temporary files and folders that killed processes left behind.

    Args:
        folders: The folders to clean; missing ones are ignored.
        name_prefix: Clean only files whose final name begins so. No other process may be writing such files now; with
            the empty prefix, no other process may be writing to the folders.
    """
    for path in (path for folder in folders if folder.is_dir() for path in folder.iterdir()):
        if is_temporary(path.name) and path.name.startswith(f".{name_prefix}"):
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def to_json(content: Any, indent: int | None = None) -> str:
    """Plain data as standard JSON. NaN and infinities, which JSON does not have, become null."""
    try:
        return json.dumps(content, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_non_finite_to_null(content), indent=indent, allow_nan=False)


def _non_finite_to_null(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _non_finite_to_null(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_non_finite_to_null(item) for item in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_json(path: Path, content: Any) -> None:
    """Write plain data as indented JSON (``to_json``), atomically. Raises HeadwayError as ``atomic_write`` does."""
    write_text(path, to_json(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically. Raises HeadwayError as ``atomic_write`` does.

    Surrogates, by which Python represents undecodable bytes of file names, are written as escapes.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes, atomically. Raises HeadwayError as ``atomic_write`` does."""
    atomic_write(path, lambda temporary: temporary.write_bytes(content))


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises HeadwayError if the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HeadwayError("cannot-read", f"cannot read {path}: {error}") from error


def unused_path(path: Path) -> Path:
    """The path, or the first of PATH-2, PATH-3, ... that does not exist."""
    if not path.exists():
        return path
    return next(other for n in itertools.count(2) if not (other := path.with_name(f"{path.name}-{n}")).exists())
