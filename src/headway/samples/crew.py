"""Drawing on every core: processes draw a share each and hand the pixels over a pipe; threads would wait in turn."""

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np

from headway.samples.draw import draw

WORTH = 300
"""Pictures from which on starting processes is worth it."""
MOST = 16
"""Processes at most."""


def draw_all(
    seed: int, count: int, side: int, progress: Callable[[int, int], None] | None = None, workers: int = 0
) -> np.ndarray:
    """The first ``count`` pictures of a collection: N side side 3, uint8; the same pixels whoever draws them.

    Args:
        seed: Of the collection.
        count: How many.
        side: Of each, in pixels, 32 to 256.
        progress: Told how many of how many are drawn.
        workers: Processes; 0: one a core where it is worth it. 1 draws here.
    """
    workers = workers or (min(_cores(), MOST) if count >= WORTH else 1)
    pictures = np.empty((count, side, side, 3), dtype=np.uint8)
    crew = [_start(seed, side, range(first, count, workers)) for first in range(workers)] if workers > 1 else []
    try:
        for index in range(count):
            pixels = _take(crew[index % workers], pictures[index].nbytes) if crew else b""
            if pixels:
                pictures[index] = np.frombuffer(pixels, dtype=np.uint8).reshape(side, side, 3)
            else:  # nobody else draws it: one could not be started, or was stopped
                pictures[index] = draw(seed, index, side)
            if progress and (index % 50 == 49 or index + 1 == count):
                progress(index + 1, count)
    finally:
        for worker in crew:
            if worker:
                worker.kill()
                worker.communicate()
    return pictures


def _start(seed: int, side: int, share: range) -> subprocess.Popen[bytes] | None:
    words = [sys.executable, "-m", __name__, *map(str, (seed, side, share.start, share.stop, share.step))]
    paths = os.pathsep.join(path for path in sys.path if path)
    alone = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=alone)
    except OSError:
        return None


def _take(worker: subprocess.Popen[bytes] | None, size: int) -> bytes:
    """The next picture of a worker; empty where it gives none any more."""
    pixels = worker.stdout.read(size) if worker and worker.stdout else b""
    return pixels if len(pixels) == size else b""


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    seed, side, *share = map(int, sys.argv[1:])
    for index in range(*share):
        sys.stdout.buffer.write(draw(seed, index, side).tobytes())
