"""What the hash of look-alikes finds of images that are encoded again or made smaller, and what it takes for alike.

python benchmarks/twins.py cifar10/test.tar.gz
"""

import argparse
import io

import numpy as np
from PIL import Image

from headway.data.dataset.decode_all import load_image
from headway.data.decoding.pixel_format import RGB
from headway.data.inspection.near_duplicates import MAX_HAMMING_DISTANCE, near_duplicate_pairs
from headway.data.inspection.scan import scan
from headway.data.open import open_source


def again(picture: Image.Image, kind: str, **options: object) -> Image.Image:
    """The image as it comes back out of a file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return Image.open(file)


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--count", type=int, default=500, help="images that are changed, spread evenly")
    arguments = parser.parse_args()
    source = open_source(arguments.data)
    looks = scan(source, RGB).perceptual_hashes
    chosen = [place * len(looks) // arguments.count for place in range(arguments.count)]
    pictures = [Image.fromarray(load_image(source, index).pixels.permute(1, 2, 0).numpy()) for index in chosen]
    changed = {
        "JPEG of quality 75": [again(picture, "JPEG", quality=75) for picture in pictures],
        "half the pixels a side": [picture.reduce(2) for picture in pictures],
        "both": [again(picture.reduce(2), "JPEG", quality=75) for picture in pictures],
    }
    for name, others in changed.items():
        differ = np.bitwise_count(scan(open_source(others), RGB).perceptual_hashes ^ looks[chosen])
        print(
            f"{name}: {(differ <= MAX_HAMMING_DISTANCE).sum()} of {len(differ)} differ in at most {MAX_HAMMING_DISTANCE} bits"
        )
    for radius in (MAX_HAMMING_DISTANCE, MAX_HAMMING_DISTANCE + 2):
        print(f"pairs of {len(looks):,} images within {radius} bits: {len(near_duplicate_pairs(looks, radius))}")


if __name__ == "__main__":
    main()
