"""Decode with Pillow, and turn its errors into plain reasons."""

import io
import threading
import warnings
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from headway.data.decoding.jpeg import jpeg_error, read_jpeg_header
from headway.data.decoding.pixel_format import NativeImage, orientation_notes
from headway.data.decoding.png import png_error
from headway.data.decoding.unsupported import unsupported_reason
from headway.errors import UnreadableImageError

ResultT = TypeVar("ResultT")

_ALLOWED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "MPO")
Image.init()
PILLOW_FORMATS = tuple(name for name in _ALLOWED_FORMATS if name in Image.OPEN)
"""The formats that Pillow may try: raster formats only, none that starts another program (as EPS does)."""
_ORIENTATION_TAG = 0x0112


class _WarningsSuppressed:
    """Suppress warnings in several threads at once. ``warnings.catch_warnings`` is not thread-safe, so the last thread
    that leaves the block restores the filters.
    """

    def __init__(self) -> None:
        self._lock, self._depth = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if self._depth == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")
            self._depth += 1

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._saved.__exit__(None, None, None)


_warnings_suppressed = _WarningsSuppressed()


def open_with_pillow(
    data: bytes, check_size: Callable[[int, int], None], use: Callable[[Image.Image], ResultT]
) -> ResultT:
    """Open an image and return ``use(image)``.

    Args:
        data: The file's bytes.
        check_size: Called with height and width before any pixel is decoded.
        use: Called with the opened image.

    Raises:
        UnreadableImageError: With a plain reason, whatever the error.
    """
    try:
        with _warnings_suppressed, Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            check_size(image.height, image.width)
            if image.format == "PNG":  # Pillow checks the pixels' checksums only here
                image.verify()  # afterwards the file must be opened again
                with Image.open(io.BytesIO(data), formats=("PNG",)) as again:
                    return use(again)
            return use(image)
    except UnreadableImageError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(_bmp_width_error(data) or "too many pixels") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError(header_error(data) or unsupported_reason(data)) from error
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        text = " ".join(str(error).split()) if isinstance(error, (OSError, SyntaxError, ValueError)) else ""
        if not text:
            raise UnreadableImageError(header_error(data) or "damaged: its header is inconsistent") from error
        if "MAX_TEXT" in text:
            raise UnreadableImageError("damaged: a text or profile in it decompresses to an excessive size") from error
        signs = ("truncated", "unexpected end", "unrecognized data stream contents")
        truncated = any(sign in text.lower() for sign in signs)
        raise UnreadableImageError(f"truncated: {text}" if truncated else f"damaged: {text}") from error


def header_error(data: bytes) -> str | None:
    """The reason why a file that starts like an image is not a valid one; None if there is none."""
    return png_error(data) or jpeg_error(data, read_jpeg_header(data)) or _bmp_width_error(data)


def _bmp_width_error(data: bytes) -> str | None:
    """The error for a BMP of negative width, which Pillow reads as a very large one; None for anything else."""
    width = int.from_bytes(data[18:22], "little", signed=True)
    return f"damaged: a BMP {width} pixels wide" if data[:2] == b"BM" and data[14:15] == b"(" and width <= 0 else None


def pillow_to_native(image: Image.Image) -> NativeImage:
    """Decode an opened image's first frame, upright: H W C, of 8 bits unless the file has more.

    Other color spaces (palettes, CMYK, YCbCr, Lab) become RGB; alpha stays a channel of its own.
    """
    notes: tuple[str, ...] = ()
    if getattr(image, "is_animated", False):  # to count the frames could take as long as decoding them all
        notes += ("the first of several pages" if image.format == "TIFF" else "the first of several frames",)
    orientation = orientation_of(image)
    image.load()
    if image.mode == "CMYK":
        notes += ("CMYK was converted to RGB",)
    notes += orientation_notes(orientation)
    upright = image if orientation == 1 else _make_upright(image)
    if upright.mode.startswith(("I", "F")):
        return NativeImage(np.asarray(upright)[..., None], False, notes)  # H W 1
    if upright.has_transparency_data:
        mode = "LA" if upright.mode in ("LA", "La") else "RGBA"
        return NativeImage(np.array(upright.convert(mode)), True, notes)  # H W 2 or 4
    if upright.mode in ("1", "L"):
        return NativeImage(np.array(upright.convert("L"))[..., None], False, notes)  # H W 1
    return NativeImage(np.array(upright if upright.mode == "RGB" else upright.convert("RGB")), False, notes)  # H W 3


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation; 1 if it is missing or invalid."""
    try:
        found = int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # unreadable EXIF is ignored
        return 1
    return found if 1 <= found <= 8 else 1


def _make_upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # unreadable EXIF is ignored
        return image
