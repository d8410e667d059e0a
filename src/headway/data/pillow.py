"""Whatever Pillow opens, with a plain reason where it cannot."""

import io
import threading
import warnings
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from headway.data.form import Raw
from headway.data.jpeg import jpeg_facts, jpeg_fault
from headway.data.png import png_fault
from headway.data.signs import what_it_is
from headway.data.source import Unreadable

Made = TypeVar("Made")

_WANTED = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "MPO")
Image.init()
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)
"""What Pillow may try: pixel formats alone, none that starts another program (EPS does)."""
_ORIENTATION = 0x0112


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


def with_pillow(data: bytes, check: Callable[[int, int], None], use: Callable[[Image.Image], Made]) -> Made:
    """What ``use`` makes of the opened picture.

    Args:
        data: The file.
        check: Called with height and width before any pixel is decoded.
        use: Called with the picture.

    Raises:
        Unreadable: With a plain reason, whatever went wrong.
    """
    try:
        with _quiet, Image.open(io.BytesIO(data), formats=FORMATS) as image:
            check(image.height, image.width)
            if image.format == "PNG":  # the checksums of its pixels are looked at only if asked for
                image.verify()  # after which the file must be opened anew
                with Image.open(io.BytesIO(data), formats=("PNG",)) as again:
                    return use(again)
            return use(image)
    except Unreadable:
        raise
    except Image.DecompressionBombError as error:
        raise Unreadable(_backwards(data) or "too many pixels") from error
    except UnidentifiedImageError as error:
        raise Unreadable(damaged_start(data) or what_it_is(data)) from error
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        text = " ".join(str(error).split()) if isinstance(error, (OSError, SyntaxError, ValueError)) else ""
        if not text:
            raise Unreadable(damaged_start(data) or "damaged: what it says of itself doesn't fit together") from error
        if "MAX_TEXT" in text:
            raise Unreadable("damaged: a text or profile in it unpacks to more than any has") from error
        cut = any(word in text.lower() for word in ("truncated", "unexpected end", "unrecognized data stream contents"))
        raise Unreadable(f"truncated: {text}" if cut else f"damaged: {text}") from error


def damaged_start(data: bytes) -> str | None:
    """Why a file that begins as a picture does is none."""
    return png_fault(data) or jpeg_fault(data, jpeg_facts(data)) or _backwards(data)


def _backwards(data: bytes) -> str | None:
    """A BMP that counts its columns below 0, which Pillow takes for a very large number."""
    width = int.from_bytes(data[18:22], "little", signed=True)
    return f"damaged: a BMP {width} pixels wide" if data[:2] == b"BM" and data[14:15] == b"(" and width <= 0 else None


def pillow_pixels(image: Image.Image) -> Raw:
    """An opened picture's pixels, upright, of its first frame: H W C, of 8 bits unless it holds more.

    Colours of other kinds (palettes, inks, lightness and hues) become red, green and blue; opacity is kept apart.
    """
    notes: tuple[str, ...] = ()
    if several(image):
        notes += ("the first of several pages" if image.format == "TIFF" else "the first of several frames",)
    orientation = orientation_of(image)
    image.load()
    if image.mode == "CMYK":
        notes += ("inks (CMYK) became red, green and blue",)
    if orientation > 1:
        notes += (f"turned upright by its EXIF orientation {orientation}",)
    upright = image if orientation == 1 else _upright(image)
    if upright.mode.startswith(("I", "F")):
        return Raw(np.asarray(upright)[..., None], False, notes)  # H W 1
    if upright.has_transparency_data:
        kind = "LA" if upright.mode in ("LA", "La") else "RGBA"
        return Raw(np.array(upright.convert(kind)), True, notes)  # H W 2 or 4
    if upright.mode in ("1", "L"):
        return Raw(np.array(upright.convert("L"))[..., None], False, notes)  # H W 1
    return Raw(np.array(upright if upright.mode == "RGB" else upright.convert("RGB")), False, notes)  # H W 3


def several(image: Image.Image) -> bool:
    """Whether there are more frames or pages than one; finding out how many may take as long as decoding them all."""
    return bool(getattr(image, "is_animated", False))


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none that means anything."""
    try:
        found = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # EXIF that cannot be read says nothing
        return 1
    return found if 1 <= found <= 8 else 1


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF that cannot be read says nothing of the pixels
        return image
