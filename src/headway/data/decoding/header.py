"""Read an image's header: format, size, channels and bit depth, without decoding pixels."""

from typing import NamedTuple

from PIL import Image

from headway.data.decoding.jpeg import is_jpeg, read_jpeg_header
from headway.data.decoding.pillow import open_with_pillow, orientation_of
from headway.data.decoding.png import read_png_header
from headway.data.decoding.raw_arrays import infer_hwc, is_npy, read_npy_header, read_pnm_header
from headway.data.decoding.tiff import is_tiff, main_page, open_pages
from headway.errors import UnreadableImageError


class ImageHeader(NamedTuple):
    """The content of an image's header.

    Attributes:
        file_format: The format by the file's content, such as "JPEG".
        height: In pixels, before the EXIF orientation is applied.
        width: In pixels, likewise.
        channels: Number of channels without alpha.
        bit_depth: Bits per channel.
        orientation: EXIF orientation, 1 to 8.
    """

    file_format: str
    height: int
    width: int
    channels: int
    bit_depth: int
    orientation: int = 1


def read_header(data: bytes) -> ImageHeader:
    """Read the header of a file. Raises UnreadableImageError if the format is unknown or the header is damaged."""
    if not data:
        raise UnreadableImageError("empty file")
    jpeg = read_jpeg_header(data) if is_jpeg(data) else None
    if jpeg:
        channels = 1 if jpeg.components == 1 else 3
        return ImageHeader("JPEG", jpeg.height, jpeg.width, channels, 8, jpeg.orientation)
    if is_npy(data):
        shape, dtype = read_npy_header(data)
        return ImageHeader("NPY", *infer_hwc(shape), 1 if dtype.kind == "b" else dtype.itemsize * 8)
    if is_tiff(data):
        with open_pages(data, 4) as pages:  # the first page may be a thumbnail
            page, _ = main_page(pages)
            if not page.use_pillow:
                channels = page.samples - page.has_alpha
                return ImageHeader("TIFF", page.height, page.width, channels, page.bit_depth, page.orientation)
    if pnm := read_pnm_header(data):
        return ImageHeader("PPM", pnm.height, pnm.width, 3, pnm.dtype.itemsize * 8)
    png = read_png_header(data)
    if png and png.bit_depth == 16:
        return ImageHeader("PNG", png.height, png.width, png.channels, 16)
    return open_with_pillow(data, lambda height, width: None, _pillow_header)


def _pillow_header(image: Image.Image) -> ImageHeader:
    bits = 32 if image.mode in ("I", "F") else 16 if image.mode.startswith("I") else 8
    channels = 1 if image.mode in ("1", "L", "LA", "La") or bits > 8 else 3
    bit_depth = 1 if image.mode == "1" else bits
    return ImageHeader(str(image.format), image.height, image.width, channels, bit_depth, orientation_of(image))
