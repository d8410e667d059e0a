"""What a file says of its picture before any pixel is decoded."""

from typing import NamedTuple

from PIL import Image

from headway.data.jpeg import is_jpeg, jpeg_facts
from headway.data.npy import is_npy, layout, npy_shape
from headway.data.pillow import orientation_of, with_pillow
from headway.data.png import png_facts
from headway.data.pnm import pnm_facts
from headway.data.source import Unreadable
from headway.data.tiff import is_tiff, main_page, pages


class Look(NamedTuple):
    """What the header says.

    Attributes:
        kind: Its format, by content.
        height: Before any turn.
        width: Likewise.
        channels: Opacity not counted.
        bits: A channel.
        orientation: By EXIF, 1 to 8.
    """

    kind: str
    height: int
    width: int
    channels: int
    bits: int
    orientation: int = 1


def look(data: bytes) -> Look:
    """What the header of a file says. Raises Unreadable where there is none that is known."""
    if not data:
        raise Unreadable("empty file")
    facts = jpeg_facts(data) if is_jpeg(data) else None
    if facts:
        kind = 1 if facts.components == 1 else 3
        return Look("JPEG", facts.height, facts.width, kind, 8, facts.orientation)
    if is_npy(data):
        shape, dtype = npy_shape(data)
        return Look("NPY", *layout(shape), 1 if dtype.kind == "b" else dtype.itemsize * 8)
    if is_tiff(data):
        with pages(data, 4) as found:  # a thumbnail may come first
            page, _ = main_page(found)
            if not page.plain:
                channels = page.samples - page.opacity
                return Look("TIFF", page.height, page.width, channels, page.bits, page.orientation)
    if pnm := pnm_facts(data):
        return Look("PPM", pnm.height, pnm.width, 3, pnm.kind.itemsize * 8)
    png = png_facts(data)
    if png and png.bits == 16:
        return Look("PNG", png.height, png.width, png.channels, 16)
    return with_pillow(data, lambda height, width: None, _seen)


def _seen(image: Image.Image) -> Look:
    deep = 32 if image.mode in ("I", "F") else 16 if image.mode.startswith("I") else 8
    channels = 1 if image.mode in ("1", "L", "LA", "La") or deep > 8 else 3
    bits = 1 if image.mode == "1" else deep
    return Look(str(image.format), image.height, image.width, channels, bits, orientation_of(image))
