"""Images a second through SimCLR's two views: Headway's batched views against torchvision's, image by image.

    python benchmarks/views.py --seconds 2

Both crop, mirror, jitter, gray and (above 32 pixels) blur with the same settings, on one thread, from the same uint8
images in memory. A source image counts once for its two views. Medians of repeats, the two taken in turn.
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
"""Stored side, side of the view, images a batch."""


def per_picture(augment: Augment, side: int) -> Callable[[Tensor], Tensor]:
    """The same augmentation out of torchvision's transforms, for one image C H W."""
    reach = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
    steps = [
        v2.RandomResizedCrop(side, augment.scale, augment.ratio, antialias=True),
        v2.RandomHorizontalFlip(augment.flip_prob),
        v2.RandomApply([v2.ColorJitter(*reach)], augment.jitter_prob),
        v2.RandomGrayscale(augment.grayscale_prob),
    ]
    if augment.blur_prob:
        steps.append(v2.RandomApply([v2.GaussianBlur(2 * (side // 20) + 1, augment.sigma)], augment.blur_prob))
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True)])


def rate(deal: Callable[[Tensor], object], images: Tensor) -> float:
    """Images a second of one call."""
    start = time.perf_counter()
    deal(images)
    return len(images) / (time.perf_counter() - start)


def compare(stored: int, side: int, batch: int, seconds: float) -> tuple[float, float]:
    """Median source images a second, Headway's and torchvision's."""
    augment = simclr_augment(side)
    images = torch.randint(0, 256, (batch, 3, stored, stored), dtype=torch.uint8)
    places, transform = torch.arange(batch), per_picture(augment, side)

    def ours(pictures: Tensor) -> list[Tensor]:
        draws, pixels = SampleRNG(0, places), to_float01(pictures)
        return [augment(pixels, draws, side) for _ in range(2)]

    def theirs(pictures: Tensor) -> list[Tensor]:
        return [torch.stack([transform(picture) for picture in pictures]) for _ in range(2)]

    few = images[: max(batch // 8, 4)]  # one at a time, torchvision's speed does not depend on how many there are
    ours(images), theirs(few)
    rates: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rates[0]) < 3:
        rates[0].append(rate(ours, images))
        rates[1].append(rate(theirs, few))
    return statistics.median(rates[0]), statistics.median(rates[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="measuring time a row")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = Table(title=f"SimCLR's two views, source images a second, {options.threads} thread(s)")
    for name in ("stored", "view", "batch", "headway", "torchvision", "ratio"):
        table.add_column(name, justify="right")
    for stored, side, batch in CASES:
        ours, theirs = compare(stored, side, batch, options.seconds)
        table.add_row(str(stored), str(side), str(batch), f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:.1f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
