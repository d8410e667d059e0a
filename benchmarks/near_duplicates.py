"""How many re-encoded or reduced images the perceptual hash finds, and how many pairs of a data set it reports.

python benchmarks/near_duplicates.py cifar10/test.tar.gz
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


def reencode(image: Image.Image, file_format: str, **options: object) -> Image.Image:
    """The image after it was written to a file and read again."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return Image.open(file)


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--count", type=int, default=500, help="images that are changed, evenly spaced")
    args = parser.parse_args()
    source = open_source(args.data)
    hashes = scan(source, RGB).perceptual_hashes
    indices = [i * len(hashes) // args.count for i in range(args.count)]
    images = [Image.fromarray(load_image(source, index).pixels.permute(1, 2, 0).numpy()) for index in indices]
    changed = {
        "JPEG of quality 75": [reencode(image, "JPEG", quality=75) for image in images],
        "half the pixels per side": [image.reduce(2) for image in images],
        "both": [reencode(image.reduce(2), "JPEG", quality=75) for image in images],
    }
    for name, others in changed.items():
        distances = np.bitwise_count(scan(open_source(others), RGB).perceptual_hashes ^ hashes[indices])
        found = (distances <= MAX_HAMMING_DISTANCE).sum()
        print(f"{name}: {found} of {len(distances)} differ in at most {MAX_HAMMING_DISTANCE} bits")
    for radius in (MAX_HAMMING_DISTANCE, MAX_HAMMING_DISTANCE + 2):
        print(f"pairs of {len(hashes):,} images within {radius} bits: {len(near_duplicate_pairs(hashes, radius))}")


if __name__ == "__main__":
    main()
