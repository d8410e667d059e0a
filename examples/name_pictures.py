"""Name pictures with a file that ``headway export`` wrote; Headway need not be there, nor torch.

    headway export models/photos --out photos.onnx
    python examples/name_pictures.py photos.onnx cat.jpg dog.jpg        # pip install onnxruntime pillow numpy

For pictures of 8 bits in colour.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def array_of(file: Path, side: int) -> np.ndarray:
    """3 side side, float32 in [0, 1]: the central square of an upright picture, brought to this side."""
    picture = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    short = min(picture.size)
    left, top = ((length - short) // 2 for length in picture.size)
    square = picture.crop((left, top, left + short, top + short)).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(square, dtype=np.float32).transpose(2, 0, 1) / 255


def main(model: str, *files: str) -> None:
    """Print a line for each picture: its file, its name and how sure that is."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    facts = json.loads(session.get_modelmeta().custom_metadata_map["headway"])
    side = facts["input"]["shape"][-1]
    pictures = np.stack([array_of(Path(file), side) for file in files])  # N 3 side side
    (said,) = session.run(["probabilities"], {"pictures": pictures})  # N K
    for file, row in zip(files, said, strict=True):
        print(f"{file}\t{facts['classes'][row.argmax()]}\t{row.max():.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
