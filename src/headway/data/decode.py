"""From a file's bytes to pixels: one policy for training, measuring and predicting, so that all see the same picture.

JPEG goes through ``data.jpeg``, everything else through Pillow. A picture is made upright by its EXIF orientation and
becomes RGB of 8 bits: grey is repeated, palettes are looked up, transparent parts lie on white, CMYK is converted,
colour profiles are not applied; of several frames or pages the first is taken. Where Pillow gives more than 8 bits, 0
stays black, and white is the end of the smallest of the ranges 8, 10, 12, 14, 16 bits that holds the brightest pixel;
floats within [0, 1] are taken as they are; any other numbers are stretched from their smallest to their largest.
"""

import io
import math
import threading
import warnings
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from headway.data.jpeg import decode_jpeg, is_jpeg, jpeg_size
from headway.data.source import Unreadable

Made = TypeVar("Made")

LARGEST = 100_000_000
"""Pixels above which a picture is refused before it is decoded."""
_WANTED = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "MPO")
Image.init()
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)
"""What Pillow may try: pixel formats alone, none that starts another program (EPS does)."""


class _Quiet:
    """No warnings meanwhile: ``warnings.catch_warnings`` is not made for threads, so here the last one out restores."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *fault: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


_quiet = _Quiet()


def decode(data: bytes) -> Tensor:
    """Decode a picture: bytes -> 3 H W, uint8, RGB, upright, whole.

    Raises:
        Unreadable: Empty, truncated, damaged, no known format, or more than LARGEST pixels.
    """
    if is_jpeg(data):
        size = jpeg_size(data)
        if size:
            _check_size(*size)
            picture = decode_jpeg(data)
            if picture is not None:
                return picture
    return _with_pillow(data, lambda image: torch.from_numpy(_rgb(image)).permute(2, 0, 1))  # 3 H W


def size_of(data: bytes) -> tuple[int, int]:
    """Height and width by the header alone, before any turn. Raises Unreadable."""
    return (jpeg_size(data) if is_jpeg(data) else None) or _with_pillow(data, lambda image: (image.height, image.width))


def fit(image: Tensor, side: int) -> Tensor:
    """The central square, brought to ``side`` pixels: 3 H W, uint8 -> 3 side side, uint8.

    The largest square in the middle is cut out and resized, bilinear with antialiasing where it shrinks. What lies
    beyond the square at the long ends is not seen; small pictures are enlarged.
    """
    height, width = image.shape[-2:]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = image[:, top : top + short, left : left + short]  # 3 short short
    if short == side:
        return square.contiguous()
    resized = F.interpolate(square[None], (side, side), mode="bilinear", antialias=True)  # 1 3 side side
    return resized[0].contiguous()


def _check_size(height: int, width: int) -> None:
    if height * width > LARGEST:
        raise Unreadable(f"too many pixels: {width} x {height}, more than {LARGEST:,}")


def _with_pillow(data: bytes, use: Callable[[Image.Image], Made]) -> Made:
    """What ``use`` makes of the opened picture. Raises Unreadable with a plain reason, whatever went wrong."""
    if not data:
        raise Unreadable("empty file")
    try:
        with _quiet, Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.height, image.width)
            return use(image)
    except Unreadable:
        raise
    except Image.DecompressionBombError as error:
        raise Unreadable(f"too many pixels, more than {LARGEST:,}") from error
    except UnidentifiedImageError as error:
        heic = data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1")
        raise Unreadable(
            "HEIC is not read; convert it to JPEG" if heic else "no picture format that is known"
        ) from error
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise Unreadable(f"damaged: {error or type(error).__name__}") from error


def _rgb(image: Image.Image) -> np.ndarray:
    """H W 3, uint8."""
    image.load()
    upright = _upright(image)
    if upright.mode.startswith(("I", "F")):
        return np.repeat(_eight_bits(np.asarray(upright))[..., None], 3, axis=2)  # H W 3
    if upright.has_transparency_data:
        paper = Image.new("RGBA", upright.size, "white")
        paper.alpha_composite(upright.convert("RGBA"))
        upright = paper
    return np.array(upright.convert("RGB"))  # H W 3


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF that cannot be read says nothing of the pixels
        return image


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """H W of any number -> H W, uint8, by the policy above; what is no finite number becomes black."""
    wide = values.astype(np.float64)
    finite = np.isfinite(wide)
    low, high = (float(wide[finite].min()), float(wide[finite].max())) if finite.any() else (0.0, 0.0)
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif values.dtype.kind in "iu" and low >= 0 and high < 1 << 16:
        low, high = 0.0, float((1 << max(8, math.ceil(math.log2(high + 1) / 2) * 2)) - 1)
    unit = np.where(finite, wide - low, 0.0) / max(high - low, 1e-12)
    return np.rint(unit * 255).astype(np.uint8)
