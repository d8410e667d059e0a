"""TIFF of more than 8 bits or of any number of channels, for which Pillow has no mode, read by tifffile.

tifffile: https://github.com/cgohlke/tifffile. Some compressions (such as LZW and Zstandard) need its companion package
imagecodecs; without it, the error names the package.
"""

import io
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from headway.data.decoding.unsupported import unsupported_reason
from headway.errors import UnreadableImageError

_ORIENTATION_TAG, _SUB_IFDS_TAG, _NO_DATA_TAG = 274, 330, 42113
_PHOTOMETRIC_RGB, _PHOTOMETRIC_PALETTE = 2, 3
"""Photometric interpretations. Pillow reads palettes and all higher ones (masks, CMYK, YCbCr)."""
_PILLOW_DTYPES = frozenset((("u", 16), ("i", 16), ("i", 32), ("f", 32)))
"""Data types for which Pillow has a mode of one channel."""


class TiffPage(NamedTuple):
    """The metadata of one page.

    Attributes:
        height: In pixels, before the orientation is applied.
        width: In pixels, likewise.
        samples: Number of channels, alpha included.
        bit_depth: Bits per channel.
        dtype_kind: NumPy's letter: u, i, f, or another one for data that are not pixels.
        has_alpha: Whether the last channel is alpha.
        orientation: From the orientation tag, 1 to 8.
        is_reduced: Whether the page is tagged as a smaller version of another page.
        use_pillow: Whether Pillow reads the page: palettes, CMYK, gray or color of 8 bits, and ``_PILLOW_DTYPES``.
        tifffile_page: The page object of tifffile.
    """

    height: int
    width: int
    samples: int
    bit_depth: int
    dtype_kind: str
    has_alpha: bool
    orientation: int
    is_reduced: bool
    use_pillow: bool
    tifffile_page: Any

    @property
    def layout(self) -> tuple[object, ...]:
        """Size and data type, which pages must share to be channels of one image."""
        return self.height, self.width, self.samples, self.bit_depth, self.dtype_kind


def is_tiff(data: bytes) -> bool:
    """Whether the bytes start with the signature of TIFF or BigTIFF."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@contextmanager
def open_pages(data: bytes, max_pages: int) -> Iterator[list[TiffPage]]:
    """The first pages, without their pixels. Raises UnreadableImageError for damage, also from within the block."""
    import tifffile

    if data[8:11] == b"CR\2":  # Canon's raw format CR2, whose pages only Canon's software can use
        raise UnreadableImageError(unsupported_reason(data))
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # its log messages would repeat our error messages
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            pages = [_parse_page(page) for page in itertools.islice(file.pages, max_pages)]
            if not pages:
                raise UnreadableImageError("damaged: a TIFF without a page")
            yield pages
    except (UnreadableImageError, MemoryError):
        raise
    except Exception as error:  # damaged directories lead to many types of exceptions
        text = " ".join(str(error).split()) or type(error).__name__
        if "imagecodecs" in text:
            raise UnreadableImageError("this compression of TIFF needs imagecodecs: pip install imagecodecs") from error
        raise UnreadableImageError(f"damaged: {text}") from error


def main_page(pages: Sequence[TiffPage]) -> tuple[TiffPage, tuple[str, ...]]:
    """Select the first page that is not a smaller version of another, and notes on the choice.

    Raises:
        UnreadableImageError: All pages are thumbnails, as in camera raw formats, which store the image elsewhere.
    """
    main = next((page for page in pages if not page.is_reduced), pages[0])
    if main.is_reduced and _SUB_IFDS_TAG in main.tifffile_page.tags:
        raise UnreadableImageError(
            "its pages are only thumbnails, as in a camera raw format; convert it to JPEG, PNG or TIFF"
        )
    if main.is_reduced:
        return main, ("the file contains only a smaller version of the image",)
    note = "the first of several pages" if main is pages[0] else "the first page that is not a thumbnail"
    main = main if main is pages[0] else main._replace(use_pillow=False)  # Pillow would read the first page
    return main, (note,) if len(pages) > 1 else ()


def read_page(page: TiffPage) -> np.ndarray:
    """Decode a page to H W C, upright. Raises UnreadableImageError for other data, and all that tifffile raises."""
    if page.dtype_kind not in ("u", "i", "f"):
        raise UnreadableImageError(f"a TIFF of {page.samples} channels of {page.bit_depth} bits is not read")
    values = np.asarray(page.tifffile_page.asarray())
    if page.tifffile_page.planarconfig == 2 and page.samples > 1:  # planar: one plane per channel
        values = np.moveaxis(values.reshape(page.samples, page.height, page.width), 0, 2)
    values = values.reshape(page.height, page.width, page.samples)  # H W C
    values = _without_no_data(values, page.tifffile_page)
    if page.tifffile_page.photometric == 0 and page.dtype_kind == "u":  # white is zero
        values = np.iinfo(values.dtype).max - values
    return apply_orientation(values, page.orientation)


def _without_no_data(values: np.ndarray, tifffile_page: Any) -> np.ndarray:
    """H W C: numbers that GDAL's tag declares to be no data become NaN, which is read as black like any other NaN."""
    if _NO_DATA_TAG not in tifffile_page.tags or values.dtype.itemsize == 1:  # in 8 bits it is black or white
        return values
    with np.errstate(over="ignore"):
        missing = values == tifffile_page.nodata
    if not missing.any():
        return values
    values = values.astype(np.promote_types(values.dtype, np.float32))
    values[missing] = np.nan
    return values


def apply_orientation(values: np.ndarray, orientation: int) -> np.ndarray:
    """Make H W C upright by its EXIF orientation, 1 to 8; other numbers are ignored."""
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1], 5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, -1), 7: lambda x: np.rot90(x, 2).swapaxes(0, 1), 8: np.rot90,
    }  # fmt: skip
    return turns[orientation](values) if orientation in turns else values


def _parse_page(page: Any) -> TiffPage:
    height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    if min(height, width, samples) < 1 or page.imagedepth != 1:
        if page.imagedepth > 1:
            raise UnreadableImageError(f"a TIFF of {page.imagedepth} layers in depth is not read")
        raise UnreadableImageError(f"damaged: a TIFF of {width} x {height} pixels and {samples} channels")
    tag = page.tags.get(_ORIENTATION_TAG)
    orientation = tag.value if tag is not None and isinstance(tag.value, int) else 1
    bit_depth = int(page.bitspersample)
    dtype_kind = page.dtype.kind if page.dtype is not None else "?"
    colors = 3 if page.photometric == _PHOTOMETRIC_RGB else 1
    has_alpha = samples == colors + 1 and tuple(page.extrasamples)[:1] in ((1,), (2,))
    is_8_bit = bit_depth <= 8 and dtype_kind in "ub" and (samples == colors or has_alpha)
    has_mode = samples == 1 and page.photometric == 1 and (dtype_kind, bit_depth) in _PILLOW_DTYPES
    has_mode = has_mode and _NO_DATA_TAG not in page.tags  # Pillow does not know the tag
    use_pillow = page.photometric >= _PHOTOMETRIC_PALETTE or is_8_bit or has_mode
    is_reduced = bool(getattr(page, "is_reduced", False))
    return TiffPage(
        height, width, samples, bit_depth, dtype_kind, has_alpha, orientation, is_reduced, use_pillow, page
    )  # fmt: skip
