"""Locks by which one process at a time works on a file or a run folder. They end with their process."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from headway.errors import HeadwayError

LOCK_FILE = ".lock"
"""Name of the lock file in a run folder. It is there while the run is in use, and after a kill until the next use."""
MAX_ATTEMPTS = 1000
"""Lock files that may disappear while they are opened; where more of them do, there are no usable locks."""
_HELD: set[int] = set()
"""Handles of the files that this process has locked."""


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Lock a folder within the block. The folder is created where it is missing, and removed where it stays empty.

    Where there are no file locks (some network file systems), every process gets access.

    Raises:
        HeadwayError: Another process holds the lock, or the folder cannot be created.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_if_empty, folder)
        try:
            stack.enter_context(file_lock(folder / LOCK_FILE, blocking=False, remove=True))
            folder.mkdir(parents=True, exist_ok=True)  # where there are no locks, it may still be missing
        except BlockingIOError as error:
            raise HeadwayError(
                "run-in-use", f"{folder} is in use by another process; wait for it, or choose another --out"
            ) from error
        except OSError as error:
            raise HeadwayError(
                "cannot-write", f"cannot create {folder}: {error.strerror}; choose another --out"
            ) from error
        yield


@contextlib.contextmanager
def file_lock(path: Path, *, blocking: bool = True, remove: bool = False) -> Iterator[bool]:
    """Let one process at a time enter the block.

    Processes that are forked in the block have no part in the lock: they neither release it nor keep it.

    Args:
        path: A file that serves as the lock only; it and its folder are created if they are missing.
        blocking: Whether to wait for another process that holds the lock.
        remove: Whether to remove the file at the end of the block.

    Yields:
        Whether the lock was acquired. Without it (on some file systems, or if the file cannot be created) the block
        runs unprotected.

    Raises:
        BlockingIOError: Another process holds the lock, and ``blocking`` is False.
    """
    handle = _acquire(path, blocking)
    try:
        yield handle is not None
    finally:
        if remove and (handle is None or handle in _HELD):
            with contextlib.suppress(OSError):
                path.unlink()  # before the release, so that who acquires it then sees that the file is gone
        if handle in _HELD:
            _HELD.remove(handle)
            os.close(handle)


def _acquire(path: Path, blocking: bool) -> int | None:
    """The handle of the locked file; None where there are no locks. Raises BlockingIOError as ``file_lock`` does."""
    from filelock import lock_descriptor

    for _ in range(MAX_ATTEMPTS):
        with contextlib.ExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
                stack.callback(os.close, handle)
                acquired = lock_descriptor(handle, blocking=blocking)
            except (FileExistsError, FileNotFoundError):  # another process is removing the folder at the moment
                continue
            except (OSError, NotImplementedError):
                return None
            if not acquired:
                raise BlockingIOError(errno.EWOULDBLOCK, "another process holds the lock", str(path))
            if os.fstat(handle).st_nlink:  # else it was removed while it was opened, and others lock a new file
                stack.pop_all()
                _HELD.add(handle)
                return handle
    return None


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _close_inherited() -> None:
    while _HELD:
        os.close(_HELD.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)
