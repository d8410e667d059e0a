"""Files that are either whole or not there: written under a temporary name, flushed to disk, renamed."""

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from headway.errors import HeadwayError


def sync(path: Path) -> None:
    """Flush a file or folder to disk; folders cannot be flushed everywhere, and there nothing is done."""
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR
    try:
        handle = os.open(path, flags)
    except OSError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(handle)


def digest(path: Path) -> str:
    """The file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file (or folder), then rename it to ``path``; a fault leaves nothing behind.

    Raises:
        HeadwayError: No space left, or the place cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        for file in sorted(temporary.rglob("*")) if temporary.is_dir() else [temporary]:
            sync(file)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink(missing_ok=True)
        if isinstance(error, (OSError, SafetensorError)):
            reason = getattr(error, "strerror", None) or error
            raise HeadwayError(f"cannot write {path}: {reason}; make room or choose another place") from error
        raise


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is what a kill in ``write_whole`` leaves behind."""
    return name.startswith(".") and name.endswith(".tmp")


def sweep(*folders: Path, of: str = "") -> None:
    """Remove what earlier kills left behind; missing folders are passed over.

    Args:
        folders: Where.
        of: How the names begin of the files that nobody else writes to; empty: nobody writes to the folders at all.
    """
    for path in (path for folder in folders if folder.is_dir() for path in folder.iterdir()):
        if is_temporary(path.name) and path.name.startswith(f".{of}"):
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[bool]:
    """Let one process of the machine at a time into the block; the lock goes with the process, however that ends.

    Args:
        lock: A file for this alone, made where it is missing.

    Yields:
        Whether nobody else is in. Where there are no such locks (Windows, some file systems) and where the file can't
        be made everybody is let in.
    """
    with contextlib.ExitStack() as stack:
        try:
            import fcntl

            fcntl.flock(stack.enter_context(lock.open("wb")), fcntl.LOCK_EX)
            held = True
        except (ImportError, OSError):
            held = False
        yield held


def to_json(content: Any, indent: int | None = None) -> str:
    """Plain data as JSON that any reader takes: NaN and the infinities, which JSON doesn't have, become null."""
    try:
        return json.dumps(content, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_with_nulls(content), indent=indent, allow_nan=False)


def _with_nulls(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _with_nulls(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_with_nulls(item) for item in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_json(path: Path, content: Any) -> None:
    """Write plain data as indented JSON (``to_json``), whole or not at all. Raises HeadwayError as ``write_whole``."""
    write_text(path, to_json(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all. Raises HeadwayError as ``write_whole`` does.

    Bytes of a file's name that are no text, which Python carries along, are written as escapes.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes, whole or not at all. Raises HeadwayError as ``write_whole`` does."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_whole(path, write)


def read_json(path: Path) -> Any:
    """Read JSON. Raises HeadwayError where the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HeadwayError(f"cannot read {path}: {error}") from error
