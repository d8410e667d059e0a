"""Classify images with a file that ``headway export`` wrote, without Headway and without torch.

    headway export models/photos --out photos.onnx
    python examples/name_images.py photos.onnx cat.jpg dog.jpg        # pip install onnxruntime pillow numpy

The images have 8 bits per channel, in color.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def load_image(file: Path, side: int) -> np.ndarray:
    """3 side side, float32 in [0, 1]: the central square of the upright image, resized."""
    image = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    short = min(image.size)
    left, top = ((length - short) // 2 for length in image.size)
    square = image.crop((left, top, left + short, top + short)).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(square, dtype=np.float32).transpose(2, 0, 1) / 255


def main(model: str, *files: str) -> None:
    """Print a line for each image: file, predicted class, probability."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    description = json.loads(session.get_modelmeta().custom_metadata_map["headway"])
    side = description["input"]["shape"][-1]
    images = np.stack([load_image(Path(file), side) for file in files])  # N 3 side side
    (probabilities,) = session.run(["probabilities"], {"images": images})  # N K
    for file, row in zip(files, probabilities, strict=True):
        print(f"{file}\t{description['classes'][row.argmax()]}\t{row.max():.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
