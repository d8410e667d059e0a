"""Images per second through SimCLR's two views: Headway's batched transforms against torchvision's, image by image.

    python benchmarks/transforms.py --seconds 2

Both crop, flip, jitter, convert to grayscale and (above 32 pixels) blur with the same settings, on one thread, from the
same uint8 images in memory. A source image counts once for its two views. Reported are medians of interleaved repeats.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.transforms import v2

from headway.rng import SampleRNG
from headway.transforms.augment import Augment, simclr_augment
from headway.transforms.pixels import to_float01

CASES = ((48, 32, 256), (96, 64, 128), (336, 224, 32))
"""Stored side and side of the view in pixels, and images per batch."""


def torchvision_augment(augment: Augment, side: int) -> Callable[[Tensor], Tensor]:
    """The same augmentation by torchvision's transforms, for one image C H W."""
    strengths = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
    steps = [
        v2.RandomResizedCrop(side, augment.scale, augment.ratio, antialias=True),
        v2.RandomHorizontalFlip(augment.flip_prob),
        v2.RandomApply([v2.ColorJitter(*strengths)], augment.jitter_prob),
        v2.RandomGrayscale(augment.grayscale_prob),
    ]
    if augment.blur_prob:
        steps.append(v2.RandomApply([v2.GaussianBlur(2 * (side // 20) + 1, augment.sigma)], augment.blur_prob))
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True)])


def images_per_second(make_views: Callable[[Tensor], object], images: Tensor) -> float:
    """The throughput of one call."""
    start = time.perf_counter()
    make_views(images)
    return len(images) / (time.perf_counter() - start)


def compare(stored: int, side: int, batch_size: int, seconds: float) -> tuple[float, float]:
    """Median source images per second, Headway's and torchvision's."""
    augment = simclr_augment(side)
    images = torch.randint(0, 256, (batch_size, 3, stored, stored), dtype=torch.uint8)
    positions, transform = torch.arange(batch_size), torchvision_augment(augment, side)

    def ours(images: Tensor) -> list[Tensor]:
        rng, pixels = SampleRNG(0, positions), to_float01(images)
        return [augment(pixels, rng.fold_in(name), side) for name in ("first", "second")]

    def theirs(images: Tensor) -> list[Tensor]:
        return [torch.stack([transform(image) for image in images]) for _ in range(2)]

    few = images[: max(batch_size // 8, 4)]  # image by image, torchvision's speed does not depend on their number
    ours(images), theirs(few)
    speeds: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(speeds[0]) < 3:
        speeds[0].append(images_per_second(ours, images))
        speeds[1].append(images_per_second(theirs, few))
    return statistics.median(speeds[0]), statistics.median(speeds[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="measuring time per row")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    table = Table(title=f"SimCLR's two views, source images per second, {args.threads} thread(s)")
    for name in ("stored", "view", "batch", "headway", "torchvision", "ratio"):
        table.add_column(name, justify="right")
    for stored, side, batch_size in CASES:
        ours, theirs = compare(stored, side, batch_size, args.seconds)
        table.add_row(
            str(stored), str(side), str(batch_size), f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:.1f}x"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
