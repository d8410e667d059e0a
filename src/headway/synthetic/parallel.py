"""Draw on all cores: worker processes send pixels through pipes. Threads would block one another on the GIL."""

import os
import subprocess
import sys

import numpy as np

from headway.synthetic.draw import draw_animal
from headway.utils.cores import available_cores
from headway.utils.progress import Progress

MIN_IMAGES_FOR_WORKERS = 300
"""For fewer images, starting processes takes longer than drawing."""
MAX_WORKERS = 16
"""Upper limit on worker processes."""


def draw_all(seed: int, count: int, side: int, progress: Progress | None = None, workers: int = 0) -> np.ndarray:
    """The first ``count`` images: N side side 3, uint8; the pixels do not depend on the number of workers.

    Args:
        seed: Of the collection.
        count: Number of images.
        side: Side of each in pixels, 32 to 256.
        progress: Called with the number of images drawn and their total.
        workers: Number of processes; 0: one per core for many images; 1: draw in this process.
    """
    workers = workers or (min(available_cores(), MAX_WORKERS) if count >= MIN_IMAGES_FOR_WORKERS else 1)
    images = np.empty((count, side, side, 3), dtype=np.uint8)
    processes = (
        [_start_worker(seed, side, range(first, count, workers)) for first in range(workers)] if workers > 1 else []
    )
    try:
        for index in range(count):
            pixels = _read_image(processes[index % workers], images[index].nbytes) if processes else b""
            if pixels:
                images[index] = np.frombuffer(pixels, dtype=np.uint8).reshape(side, side, 3)
            else:  # no worker, or its process did not start or was stopped
                images[index] = draw_animal(seed, index, side)
            if progress and (index % 50 == 49 or index + 1 == count):
                progress(index + 1, count)
    finally:
        for worker in processes:
            if worker:
                worker.kill()
                worker.communicate()
    return images


def _start_worker(seed: int, side: int, indices: range) -> subprocess.Popen[bytes] | None:
    command = [sys.executable, "-m", __name__, *map(str, (seed, side, indices.start, indices.stop, indices.step))]
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    except OSError:
        return None


def _read_image(worker: subprocess.Popen[bytes] | None, size: int) -> bytes:
    """The pixels of a worker's next image; empty if the worker has ended."""
    pixels = worker.stdout.read(size) if worker and worker.stdout else b""
    return pixels if len(pixels) == size else b""


if __name__ == "__main__":
    seed, side, *indices = map(int, sys.argv[1:])
    for index in range(*indices):
        sys.stdout.buffer.write(draw_animal(seed, index, side).tobytes())
