"""How near decoding into a store comes to the decoder alone, and what an index of many files costs.

    python benchmarks/ingest.py                          # 500 x 375 JPEGs: throughputs and their ratio, in one run
    python benchmarks/ingest.py --index 1000000          # so many small files: seconds, and memory added

The decoder alone reads the same files in as many threads and discards what it decoded. Building a store also detects
the format of each file, resizes the image to the stored side, hashes it and stores it; ``check`` scans it instead. The
measurements are interleaved; medians are reported. The files are drawn, written to --folder (in memory if that is a
tmpfs) and removed afterwards.
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
def resident_mb(): return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6  # Linux only
before = resident_mb()
for name in ("first", "warm"):
    start = time.perf_counter()
    source = open_source(sys.argv[1])
    seconds = time.perf_counter() - start
    print(f"{name}: {len(source):,} files indexed in {seconds:.1f} s, {resident_mb() - before:.0f} MB added")
    del source
"""


def write_photographs(folder: Path, count: int) -> None:
    """Write soft shapes under noise, which compress about as well as photographs."""
    for number in range(count):
        rng = np.random.default_rng(number)
        soft = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((500, 375))
        noisy = np.asarray(soft).astype(int) + rng.integers(-12, 12, (375, 500, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number:05d}.jpg", quality=85)


def decoder_seconds(folder: Path, threads: int) -> float:
    """Seconds to read and decode every file."""
    files, start = sorted(folder.iterdir()), time.perf_counter()
    with ThreadPoolExecutor(threads) as executor:
        for failed in executor.map(lambda file: decode_jpeg(file.read_bytes()) is None, files, chunksize=32):
            assert not failed
    return time.perf_counter() - start


def measure_throughputs(folder: Path, count: int, side: int, threads: int, pairs: int) -> None:
    """Print the images per second of the decoder, of building a store and of a scan."""
    write_photographs(folder, count)
    torch.set_num_threads(1)
    source = open_source(folder)
    seconds: dict[str, list[float]] = {"decoder": [], "ingest": [], "check": []}
    for _ in range(pairs + 1):
        seconds["decoder"].append(decoder_seconds(folder, threads))
        start = time.perf_counter()
        build_store(source, side, pixel_format=RGB, workers=threads)
        seconds["ingest"].append(time.perf_counter() - start)
        start = time.perf_counter()
        scan(source, RGB, workers=threads)
        seconds["check"].append(time.perf_counter() - start)
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}  # the first round warms up
    kib = statistics.mean(file.stat().st_size for file in folder.iterdir()) / 1024
    print(f"{count} JPEGs of 500 x 375, {kib:.0f} KiB each, {threads} threads, stored at {side} x {side}")
    for name, median in medians.items():
        ratios = [alone / own for alone, own in zip(seconds["decoder"][1:], seconds[name][1:], strict=True)]
        print(f"{name:>8}: {count / median:7,.0f} images/s, {statistics.median(ratios):.2f} of the decoder's rate "
              f"({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


def measure_index(folder: Path, count: int) -> None:
    """Print what an index of small files costs, in a process of its own."""
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
    args = parser.parse_args()
    parent = args.folder or (Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix="headway-ingest-", dir=parent))
    try:
        if args.index:
            measure_index(folder, args.index)
        else:
            for side in args.side:
                measure_throughputs(folder, args.count, side, args.threads, args.pairs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


if __name__ == "__main__":
    main()
