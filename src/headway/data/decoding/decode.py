"""Decode a file's bytes to pixels. Training, evaluation and prediction all decode here, so they see equal images.

RGB JPEG is decoded by torchvision (``jpeg``), 16-bit PNG, TIFF, PNM and NumPy arrays by their own modules, everything
else by Pillow. The image is made upright by its EXIF orientation and converted to the data set's ``PixelFormat``, by
default RGB of 8 bits: gray is repeated over the channels, palettes are looked up, transparent parts are composited on
white, and CMYK is converted. Color profiles are not applied. Of several frames or pages the first is used, unless the
pixel format asks for as many channels as a TIFF has equal pages.
"""

import contextlib
import threading
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from headway.data.decoding.jpeg import decode_jpeg, is_jpeg, jpeg_error, read_jpeg_header
from headway.data.decoding.pillow import open_with_pillow, pillow_to_native
from headway.data.decoding.pixel_format import RGB, NativeImage, PixelFormat, convert, orientation_notes
from headway.data.decoding.png import decode_png16, has_transparent_color, read_png_header, webp_size
from headway.data.decoding.raw_arrays import decode_npy, decode_pnm, infer_hwc, is_npy, read_npy_header, read_pnm_header
from headway.data.decoding.tiff import is_tiff, main_page, open_pages, read_page
from headway.errors import UnreadableImageError

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded."""
MIN_REDUCED_SHORT_SIDE = 512
"""A JPEG is decoded at a reduced size only if its shorter side keeps at least this many pixels."""
SERIAL_DECODE_PIXELS = 25_000_000
"""Images of more pixels (of three channels) are decoded one at a time, whatever the number of threads."""
MAX_PROGRESSIVE_PASSES = 20
"""Limit on the work of a progressive JPEG: its scans times its pixels are at most this times MAX_PIXELS."""
_huge_image_lock = threading.Lock()


class DecodedImage(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: C H W in the requested pixel format.
        notes: What a user should know: what was omitted, converted or scaled.
        reduced: The same image, decoded at the reduced size; None: ``pixels`` are of that size already.
    """

    pixels: Tensor
    notes: tuple[str, ...] = ()
    reduced: Tensor | None = None

    @property
    def hash_pixels(self) -> Tensor:
        """C H W: the pixels for the content hash, which are the same for every requested size."""
        return self.pixels if self.reduced is None else self.reduced


def decode(data: bytes, pixel_format: PixelFormat = RGB) -> Tensor:
    """Decode an image at full size: bytes -> C H W, upright, in the pixel format (uint8, or float32 in [0, 1]).

    Raises:
        UnreadableImageError: The file is empty, truncated, damaged or of an unknown format, or the image has too many
            pixels or channels that the pixel format does not allow.
    """
    return decode_with_notes(data, pixel_format).pixels


def decode_with_notes(data: bytes, pixel_format: PixelFormat = RGB, min_side: int = 0) -> DecodedImage:
    """Decode an image as ``decode`` does, with notes, and at a reduced size if that suffices.

    Args:
        data: The file's bytes.
        pixel_format: The data set's pixel format.
        min_side: Pixels that the shorter side must have; 0: full size. A JPEG is decoded at a half, a quarter or an
            eighth of its size if its shorter side then keeps at least ``min_side`` and MIN_REDUCED_SHORT_SIDE pixels.

    Raises:
        UnreadableImageError: As ``decode``.
    """
    if is_jpeg(data):
        header = read_jpeg_header(data)
        if header:  # without a header, Pillow tries the file
            if error := jpeg_error(data, header):
                raise UnreadableImageError(error)
            check_size(header.height, header.width)
            if header.scans * header.height * header.width > MAX_PROGRESSIVE_PASSES * MAX_PIXELS:
                raise UnreadableImageError(f"a progressive JPEG of {header.scans:,} scans would take too long")
            factor = jpeg_reduction(header.height, header.width)
            if factor > 1 and min_side:
                reduced = DecodedImage(*convert(_decode_reduced_jpeg(data, factor), pixel_format))
                if min_side <= min(reduced.pixels.shape[1:]):
                    return reduced
                return decode_with_notes(data, pixel_format)._replace(reduced=reduced.pixels)
            if pixel_format.is_rgb8 and header.components != 4:
                with _huge_image_guard(header.height * header.width):
                    pixels = decode_jpeg(data)
                if pixels is not None:
                    notes: tuple[str, ...] = ("the first of several frames",) if header.has_multiple_frames else ()
                    return DecodedImage(pixels, notes + orientation_notes(header.orientation))
    native = decode_native(data, pixel_format)
    with _huge_image_guard(native.values.size // 3):
        return DecodedImage(*convert(native, pixel_format))


def jpeg_reduction(height: int, width: int) -> int:
    """The factor by which a JPEG of this size may be reduced: 1, 2, 4 or 8."""
    return next((factor for factor in (8, 4, 2) if min(height, width) >= factor * MIN_REDUCED_SHORT_SIDE), 1)


def decode_native(data: bytes, pixel_format: PixelFormat) -> NativeImage:
    """Decode an image in its file's own channels and numbers, upright.

    Args:
        data: The file's bytes.
        pixel_format: The data set's pixel format. Its number of channels determines an array's channel axis, and
            whether the pages of a TIFF are channels.

    Raises:
        UnreadableImageError: As ``decode``.
    """
    if not data:
        raise UnreadableImageError("empty file")
    if is_npy(data):
        shape, dtype = read_npy_header(data)
        height, width, count = infer_hwc(shape, pixel_format.channels)
        check_size(height, width, count * dtype.itemsize)
        return decode_npy(data, pixel_format.channels)
    if is_tiff(data) and (native := _decode_tiff(data, pixel_format)):
        return native
    if pnm := read_pnm_header(data):
        check_size(pnm.height, pnm.width, 3 * pnm.dtype.itemsize)
        return decode_pnm(data, pnm)
    if webp := webp_size(data):
        check_size(*webp, bytes_per_pixel=12)  # its decoder allocates two frames with alpha
    png = read_png_header(data)
    if png:
        check_size(png.height, png.width, (png.channels + png.has_alpha) * (png.bit_depth + 7) // 8)
    if png and png.bit_depth == 16 and (png.channels + png.has_alpha > 1 or has_transparent_color(data)):
        with _huge_image_guard(png.height * png.width):
            png_image = decode_png16(data)
        if png_image is not None:
            return png_image
    return open_with_pillow(data, check_size, _guarded_pillow_pixels)


def check_size(height: int, width: int, bytes_per_pixel: int = 3) -> None:
    """Raise UnreadableImageError for an image of more than MAX_PIXELS pixels or 6 x MAX_PIXELS bytes.

    Args:
        height: In pixels.
        width: In pixels.
        bytes_per_pixel: Bytes of all channels of a pixel.
    """
    if height * width > MAX_PIXELS:
        raise UnreadableImageError(f"too many pixels: {width} x {height}, more than {MAX_PIXELS:,}")
    if height * width * bytes_per_pixel > 6 * MAX_PIXELS:
        raise UnreadableImageError(
            f"too many pixels: {width} x {height} of {bytes_per_pixel} bytes, more than {6 * MAX_PIXELS:,} bytes"
        )


def center_crop_resize(image: Tensor, side: int, out: Tensor | None = None) -> Tensor:
    """Crop the largest central square and resize it: C H W -> C side side, of the same dtype.

    The resize is bilinear, with antialiasing if the square shrinks. Small images are enlarged.

    Args:
        image: C H W.
        side: In pixels.
        out: C side side, receives the result; None: a new tensor.
    """
    height, width = image.shape[-2:]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = image[None, :, top : top + short, left : left + short]  # 1 C short short
    if short != side:
        if image.stride(0) == 1:  # decoders give channels-last memory, in which torch resizes faster
            square = square.contiguous(memory_format=torch.channels_last)
        square = F.interpolate(square, (side, side), mode="bilinear", antialias=True)  # 1 C side side
    return square[0].contiguous() if out is None else out.copy_(square[0])


def _huge_image_guard(pixels: int) -> contextlib.AbstractContextManager[object]:
    """A lock for huge images, so that memory does not grow with the number of threads."""
    return _huge_image_lock if pixels > SERIAL_DECODE_PIXELS else contextlib.nullcontext()


def _decode_reduced_jpeg(data: bytes, factor: int) -> NativeImage:
    """Decode a JPEG at a half, a quarter or an eighth of its size, from fewer DCT frequencies and in far less time."""

    def use(image: Image.Image) -> NativeImage:
        image.draft(None, (image.width // factor, image.height // factor))
        return pillow_to_native(image)

    return open_with_pillow(data, check_size, use)


def _guarded_pillow_pixels(image: Image.Image) -> NativeImage:
    with _huge_image_guard(image.height * image.width):
        return pillow_to_native(image)


def _decode_tiff(data: bytes, pixel_format: PixelFormat) -> NativeImage | None:
    """Decode a TIFF that Pillow has no mode for, or whose equal pages are channels; None: Pillow decodes it."""
    channels = pixel_format.channels if pixel_format.pages_as_channels else 1
    with open_pages(data, max(channels + 1, 4)) as pages:  # the first page may be a thumbnail
        first, notes = main_page(pages)
        sample_bytes = first.bit_depth // 8 or 1
        check_size(first.height, first.width, first.samples * sample_bytes)
        if len(pages) == channels > 1 and len({page.layout for page in pages}) == 1 and first.samples == 1:
            check_size(first.height, first.width, channels * sample_bytes)
            with _huge_image_guard(first.height * first.width * channels // 3):
                planes = [read_page(page) for page in pages]
            return NativeImage(np.concatenate(planes, 2), False, (f"its {channels} pages became channels",))  # H W C
        if first.use_pillow and first.is_reduced:
            native = open_with_pillow(data, check_size, _guarded_pillow_pixels)
            return native._replace(notes=notes + native.notes)
        if first.use_pillow:
            return None
        notes += orientation_notes(first.orientation)
        with _huge_image_guard(first.height * first.width * first.samples // 3):
            return NativeImage(read_page(first), first.has_alpha, notes)
