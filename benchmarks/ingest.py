"""How near ingest comes to the decoder alone, and what an index of many files takes.

    python benchmarks/ingest.py                          # 500 x 375 JPEGs: rates and their ratio, in one run
    python benchmarks/ingest.py --index 1000000          # so many small files: seconds, and memory above bare

The decoder alone reads the same files in as many threads and forgets what it decoded. Ingest also finds out what each
file is, fits it to the stored side, hashes it and puts it into the store; ``check`` looks at it instead. Pairs are
interleaved, and medians taken. The files are drawn, written to --folder (in memory, where that is a tmpfs) and removed.
"""

import argparse
import io
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from headway.data.dataset.image_store import build_store
from headway.data.decoding.jpeg import decode_jpeg
from headway.data.decoding.pixel_format import RGB
from headway.data.inspection.scan import scan
from headway.data.open import open_source

INDEX = """
import sys, time
from headway.data.open import open_source
def used(): return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6  # Linux: resident now, in MB
bare = used()
for again in ("first", "warm"):
    began = time.perf_counter()
    source = open_source(sys.argv[1])
    seconds = time.perf_counter() - began
    print(f"{again}: {len(source):,} files indexed in {seconds:.1f} s, {used() - bare:.0f} MB above bare")
    del source
"""


def draw_photographs(folder: Path, count: int) -> None:
    """Soft shapes under noise, which compress about as photographs do."""
    for number in range(count):
        chance = np.random.default_rng(number)
        soft = Image.fromarray(chance.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((500, 375))
        noisy = np.asarray(soft).astype(int) + chance.integers(-12, 12, (375, 500, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number:05d}.jpg", quality=85)


def decoder_alone(folder: Path, threads: int) -> float:
    """Seconds to read and decode every file."""
    files, began = sorted(folder.iterdir()), time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for picture in pool.map(lambda file: decode_jpeg(file.read_bytes()) is None, files, chunksize=32):
            assert not picture
    return time.perf_counter() - began


def rates(folder: Path, count: int, side: int, threads: int, pairs: int) -> None:
    """Print what the decoder, ingest and check do in a second."""
    draw_photographs(folder, count)
    torch.set_num_threads(1)
    source = open_source(folder)
    seconds: dict[str, list[float]] = {"decoder": [], "ingest": [], "check": []}
    for _ in range(pairs + 1):
        seconds["decoder"].append(decoder_alone(folder, threads))
        began = time.perf_counter()
        build_store(source, side, pixel_format=RGB, workers=threads)
        seconds["ingest"].append(time.perf_counter() - began)
        began = time.perf_counter()
        scan(source, RGB, workers=threads)
        seconds["check"].append(time.perf_counter() - began)
    times = {name: statistics.median(taken[1:]) for name, taken in seconds.items()}  # the first round warms up
    size = statistics.mean(file.stat().st_size for file in folder.iterdir()) / 1024
    print(f"{count} JPEGs of 500 x 375, {size:.0f} KiB each, {threads} threads, stored at {side} x {side}")
    for name, taken in times.items():
        ratios = [alone / own for alone, own in zip(seconds["decoder"][1:], seconds[name][1:], strict=True)]
        print(f"{name:>8}: {count / taken:7,.0f} images/s, {statistics.median(ratios):.2f} of the decoder's rate "
              f"({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


def index(folder: Path, count: int) -> None:
    """Print what an index of small files takes, in a process of its own."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    for start in range(0, count, 1000):
        inside = folder / f"class {start // 1000 % 100:02d}" / f"{start // 1000:04d}"
        inside.mkdir(parents=True)
        for number in range(start, min(start + 1000, count)):
            (inside / f"{number:07d}.jpg").write_bytes(file.getvalue())
    subprocess.run([sys.executable, "-c", INDEX, str(folder)], check=True)


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--side", type=int, nargs="+", default=[96, 224, 336])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    place = arguments.folder or (Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix="headway-ingest-", dir=place))
    try:
        if arguments.index:
            index(folder, arguments.index)
        else:
            for side in arguments.side:
                rates(folder, arguments.count, side, arguments.threads, arguments.pairs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


if __name__ == "__main__":
    main()
