"""What the hash of look-alikes finds of pictures that are encoded again or made smaller, and what it takes for alike.

python benchmarks/twins.py cifar10/test.tar.gz
"""

import argparse
import io

import numpy as np
from PIL import Image

from headway.data.check import inspect
from headway.data.form import RGB
from headway.data.ingest import load
from headway.data.open import open_source
from headway.data.twins import RADIUS, near_pairs


def again(picture: Image.Image, kind: str, **options: object) -> Image.Image:
    """The picture as it comes back out of a file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return Image.open(file)


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--count", type=int, default=500, help="pictures that are changed, spread evenly")
    arguments = parser.parse_args()
    source = open_source(arguments.data)
    looks = inspect(source, RGB).looks
    chosen = [place * len(looks) // arguments.count for place in range(arguments.count)]
    pictures = [Image.fromarray(load(source, index).pixels.permute(1, 2, 0).numpy()) for index in chosen]
    changed = {
        "JPEG of quality 75": [again(picture, "JPEG", quality=75) for picture in pictures],
        "half the pixels a side": [picture.reduce(2) for picture in pictures],
        "both": [again(picture.reduce(2), "JPEG", quality=75) for picture in pictures],
    }
    for name, others in changed.items():
        differ = np.bitwise_count(inspect(open_source(others), RGB).looks ^ looks[chosen])
        print(f"{name}: {(differ <= RADIUS).sum()} of {len(differ)} differ in at most {RADIUS} bits")
    for radius in (RADIUS, RADIUS + 2):
        print(f"pairs of {len(looks):,} pictures within {radius} bits: {len(near_pairs(looks, radius))}")


if __name__ == "__main__":
    main()
