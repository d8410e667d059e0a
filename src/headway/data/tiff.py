"""TIFF of more than 8 bits or of any number of channels, which Pillow has no mode for; tifffile reads it.

tifffile: https://github.com/cgohlke/tifffile. Compressions that need its companion imagecodecs (LZW, Zstandard and the
like) are read where that is installed, and named where it is not.
"""

import io
import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from headway.data.source import Unreadable

_ORIENTATION = 274
_COLOUR, _PALETTE = 2, 3
"""Photometric interpretations; from palettes on (masks, inks, JPEG's colours) they are left to Pillow."""
_PILLOWS = frozenset((("u", 16), ("i", 16), ("i", 32), ("f", 32)))
"""What Pillow has a mode for, in one channel."""


class Page(NamedTuple):
    """What one page says of its picture, and the page.

    Attributes:
        height: Before any turn.
        width: Likewise.
        samples: Channels, opacity included.
        bits: A channel.
        kind: u, i, f, or another letter of NumPy's that no pixel is made of.
        opacity: Whether the last channel is opacity.
        orientation: By its tag, 1 to 8.
        plain: Whether it is left to Pillow: palettes, inks, 8 bits of grey or colour, what it has a deep mode for.
        page: tifffile's.
    """

    height: int
    width: int
    samples: int
    bits: int
    kind: str
    opacity: bool
    orientation: int
    plain: bool
    page: Any

    @property
    def shape(self) -> tuple[object, ...]:
        """What pages must share to be channels of one picture."""
        return self.height, self.width, self.samples, self.bits, self.kind


def is_tiff(data: bytes) -> bool:
    """Whether the bytes begin as a TIFF or BigTIFF does."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@contextmanager
def pages(data: bytes, most: int) -> Iterator[list[Page]]:
    """The first pages, their pixels still unread. Raises Unreadable where one is damaged, within the block as well."""
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it has to say is said by our reasons
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            found = [_page(page) for page in itertools.islice(file.pages, most)]
            if not found:
                raise Unreadable("damaged: a TIFF without a page")
            yield found
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # whatever a damaged directory leads to
        text = " ".join(str(error).split()) or type(error).__name__
        if "imagecodecs" in text:
            raise Unreadable("this compression of TIFF needs imagecodecs: pip install imagecodecs") from error
        raise Unreadable(f"damaged: {text}") from error


def page_values(page: Page) -> np.ndarray:
    """H W C of one page, upright. Raises whatever tifffile raises; Unreadable for what is no pixel."""
    if page.kind not in ("u", "i", "f"):
        raise Unreadable(f"a TIFF of {page.samples} channels of {page.bits} bits is not read")
    values = np.asarray(page.page.asarray())
    if page.page.planarconfig == 2 and page.samples > 1:  # channel after channel
        values = np.moveaxis(values.reshape(page.samples, page.height, page.width), 0, 2)
    values = values.reshape(page.height, page.width, page.samples)  # H W C
    if page.page.photometric == 0 and page.kind == "u":  # white is zero
        values = np.iinfo(values.dtype).max - values
    return turned(values, page.orientation)


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """H W C made upright by its EXIF orientation, 1 to 8; other numbers say nothing."""
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1], 5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, -1), 7: lambda x: np.rot90(x, 2).swapaxes(0, 1), 8: np.rot90,
    }  # fmt: skip
    return turns[orientation](values) if orientation in turns else values


def _page(page: Any) -> Page:
    height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    if min(height, width, samples) < 1 or page.imagedepth != 1:
        raise Unreadable(f"a TIFF of {height} x {width} x {page.imagedepth} pixels is not read")
    tag = page.tags.get(_ORIENTATION)
    orientation = tag.value if tag is not None and isinstance(tag.value, int) else 1
    bits = int(page.bitspersample)
    kind = page.dtype.kind if page.dtype is not None else "?"
    colours = 3 if page.photometric == _COLOUR else 1
    opacity = samples == colours + 1 and tuple(page.extrasamples)[:1] in ((1,), (2,))
    usual = bits <= 8 and kind in "ub" and (samples == colours or opacity)
    plain = (
        page.photometric >= _PALETTE or usual or (samples == 1 and page.photometric == 1 and (kind, bits) in _PILLOWS)
    )
    return Page(height, width, samples, bits, kind, opacity, orientation, plain, page)
