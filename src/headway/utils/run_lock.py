"""Lock of a run folder, so that one command at a time works on it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from headway.errors import HeadwayError


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Lock a folder within the block. The folder is created where it is missing, and removed where it stays empty.

    The lock is on the folder itself, without a lock file, and ends with the process, however that ends. Where there are
    no such locks (some network file systems, Windows), every process gets access.

    Raises:
        HeadwayError: Another process holds the lock, or the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HeadwayError(f"cannot create {folder}: {error.strerror}; choose another --out") from error
    handle = _try_lock(folder)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()


def _try_lock(folder: Path) -> int | None:
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise HeadwayError(f"{folder} is in use by another process; wait for it, or choose another --out") from error
    except OSError:
        os.close(handle)
        return None
    return handle
