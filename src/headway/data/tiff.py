"""TIFF of more than 8 bits or of any number of channels, which Pillow has no mode for; tifffile reads it.

tifffile: https://github.com/cgohlke/tifffile. Compressions that need its companion imagecodecs (LZW, Zstandard and the
like) are read where that is installed, and named where it is not.
"""

import io
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from headway.data.signs import what_it_is
from headway.data.source import Unreadable

_ORIENTATION, _SUB_PAGES = 274, 330
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
        reduced: Whether it says of itself that it is a smaller version of another page.
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
    reduced: bool
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

    if data[8:11] == b"CR\2":  # Canon's, whose pages are for its own program
        raise Unreadable(what_it_is(data))
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


def main_page(found: Sequence[Page]) -> tuple[Page, tuple[str, ...]]:
    """The page that is the picture, the first that is no smaller version of another; and what is to be said of that.

    Raises:
        Unreadable: The pictures of a camera's raw data lie elsewhere, and a thumbnail is all that the pages are.
    """
    main = next((page for page in found if not page.reduced), found[0])
    if main.reduced and _SUB_PAGES in main.page.tags:
        raise Unreadable("only a thumbnail is on its pages, as in a camera's raw data; develop it to JPEG, PNG or TIFF")
    if main.reduced:
        return main, ("a smaller version of the picture is all that it holds",)
    note = "the first of several pages" if main is found[0] else "the first page that is no thumbnail"
    main = main if main is found[0] else main._replace(plain=False)  # Pillow would take the first
    return main, (note,) if len(found) > 1 else ()


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
        if page.imagedepth > 1:
            raise Unreadable(f"a TIFF of {page.imagedepth} layers in depth is not read")
        raise Unreadable(f"damaged: a TIFF of {width} x {height} pixels and {samples} channels")
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
    reduced = bool(getattr(page, "is_reduced", False))
    return Page(height, width, samples, bits, kind, opacity, orientation, reduced, plain, page)
