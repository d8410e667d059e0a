"""From a file's bytes to pixels: one policy for training, measuring and predicting, so that all see the same picture.

JPEG goes through ``data.jpeg``; PNG, TIFF and NumPy arrays of more than 8 bits or other channels through files of their
own; everything else through Pillow. A picture is made upright by its EXIF orientation and brought into the data set's
form (``data.form``): by default RGB of 8 bits, where grey is repeated, palettes are looked up, transparent parts lie on
white and inks are converted; colour profiles are not applied. Of several frames or pages the first is taken, unless as
many channels were asked for as a TIFF has equal pages.
"""

import contextlib
import threading
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from headway.data.form import RGB, Form, Raw, bring
from headway.data.jpeg import decode_jpeg, is_jpeg, jpeg_facts, jpeg_fault
from headway.data.npy import is_npy, layout, npy_shape, read_npy
from headway.data.pillow import pillow_pixels, with_pillow
from headway.data.png import png_facts, webp_size
from headway.data.png_deep import clear_colour, deep_png
from headway.data.pnm import pnm_facts, read_pnm
from headway.data.source import Unreadable
from headway.data.tiff import is_tiff, main_page, page_values, pages

LARGEST = 100_000_000
"""Pixels above which a picture is refused before it is decoded."""
REDUCED = 512
"""Pixels that the shorter side of a JPEG keeps where it is decoded at a reduced size."""
HUGE = 25_000_000
"""Pixels (of three channels) above which pictures are decoded one at a time, however many threads there are."""
SCANS = 20
"""A progressive JPEG may go over LARGEST pixels so often: more passes over fewer of them."""
_one_huge = threading.Lock()


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        pixels: C H W in the form asked for.
        notes: What a person should know: what was left out, converted or scaled.
        reduced: The same, decoded at the reduced size; none: the pixels are that already.
    """

    pixels: Tensor
    notes: tuple[str, ...] = ()
    reduced: Tensor | None = None

    @property
    def same(self) -> Tensor:
        """C H W: what the picture is recognised by, the same whatever size was asked for."""
        return self.pixels if self.reduced is None else self.reduced


def decode(data: bytes, form: Form = RGB) -> Tensor:
    """Decode a picture: bytes -> C H W, upright, whole, in the data set's form (uint8, or float32 in [0, 1]).

    Raises:
        Unreadable: Empty, truncated, damaged, no known format, too many pixels, or other channels than the form's.
    """
    return read_picture(data, form).pixels


def read_picture(data: bytes, form: Form = RGB, side: int = 0) -> Picture:
    """As ``decode``, with notes, and no larger than need be.

    Args:
        data: The file.
        form: Of the data set.
        side: Pixels that the shorter side must have; 0: the whole picture, as it is. A JPEG whose reduced size (at a
            half, a quarter or an eighth, its shorter side no less than REDUCED pixels) will do is decoded at that.

    Raises:
        Unreadable: As ``decode``.
    """
    if is_jpeg(data):
        facts = jpeg_facts(data)
        if facts:  # without any Pillow may know better
            if fault := jpeg_fault(data, facts):
                raise Unreadable(fault)
            check_size(facts.height, facts.width)
            if facts.scans * facts.height * facts.width > SCANS * LARGEST:
                raise Unreadable(f"a progressive JPEG of {facts.scans:,} scans would take too long")
            by = reduction(facts.height, facts.width)
            if by > 1 and side:
                reduced = Picture(*bring(_reduced(data, by), form))
                if side <= min(reduced.pixels.shape[1:]):
                    return reduced
                return read_picture(data, form)._replace(reduced=reduced.pixels)
            if form.plain and facts.components != 4:
                with _turn(facts.height * facts.width):
                    picture = decode_jpeg(data)
                if picture is not None:
                    notes: tuple[str, ...] = ("the first of several frames",) if facts.several else ()
                    if facts.orientation > 1:
                        notes += (f"turned upright by its EXIF orientation {facts.orientation}",)
                    return Picture(picture, notes)
    raw = read_raw(data, form)
    with _turn(raw.values.size // 3):
        return Picture(*bring(raw, form))


def reduction(height: int, width: int) -> int:
    """By how much a JPEG of this size may be reduced: 1, 2, 4 or 8."""
    return next((by for by in (8, 4, 2) if min(height, width) >= by * REDUCED), 1)


def read_raw(data: bytes, form: Form = RGB) -> Raw:
    """A picture as its file holds it, upright.

    Args:
        data: The file.
        form: Of the data set: an array's axis of so many channels is known by it, and what a TIFF's pages are.

    Raises:
        Unreadable: As ``decode``.
    """
    if not data:
        raise Unreadable("empty file")
    if is_npy(data):
        shape, dtype = npy_shape(data)
        height, width, count = layout(shape, form.channels)
        check_size(height, width, count * dtype.itemsize)
        return read_npy(data, form.channels)
    if is_tiff(data):
        wanted = _tiff(data, form)
        if wanted:
            return wanted
    pnm = pnm_facts(data)
    if pnm:
        check_size(pnm.height, pnm.width, 3 * pnm.kind.itemsize)
        return read_pnm(data, pnm)
    webp = webp_size(data)
    if webp:
        check_size(*webp, bytes_each=12)  # its decoder makes room for two frames with opacity
    png = png_facts(data)
    if png:
        check_size(png.height, png.width, (png.channels + png.opacity) * (png.bits + 7) // 8)
    if png and png.bits == 16 and (png.channels + png.opacity > 1 or clear_colour(data)):
        with _turn(png.height * png.width):
            raw = deep_png(data)
        if raw is not None:
            return raw
    return with_pillow(data, check_size, _in_turn)


def check_size(height: int, width: int, bytes_each: int = 3) -> None:
    """Raise Unreadable for a picture of more pixels, or of more bytes, than are decoded.

    Args:
        height: In pixels.
        width: In pixels.
        bytes_each: Of a pixel, all its channels.
    """
    if height * width > LARGEST:
        raise Unreadable(f"too many pixels: {width} x {height}, more than {LARGEST:,}")
    if height * width * bytes_each > 6 * LARGEST:
        raise Unreadable(f"too many pixels: {width} x {height} of {bytes_each} bytes, more than {6 * LARGEST:,} bytes")


def fit(image: Tensor, side: int, out: Tensor | None = None) -> Tensor:
    """The central square, brought to ``side`` pixels: C H W -> C side side, of the same dtype.

    The largest square in the middle is cut out and resized, bilinear with antialiasing where it shrinks. What lies
    beyond the square at the long ends is not seen; small pictures are enlarged.

    Args:
        image: C H W.
        side: In pixels.
        out: C side side, to write into; none: a new one.
    """
    height, width = image.shape[-2:]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = image[None, :, top : top + short, left : left + short]  # 1 C short short
    if short != side:
        if image.stride(0) == 1:  # as decoders leave it: torch is faster where that is kept
            square = square.contiguous(memory_format=torch.channels_last)
        square = F.interpolate(square, (side, side), mode="bilinear", antialias=True)  # 1 C side side
    return square[0].contiguous() if out is None else out.copy_(square[0])


def _turn(pixels: int) -> contextlib.AbstractContextManager[object]:
    """Huge pictures wait for one another, so that memory does not grow with the number of threads."""
    return _one_huge if pixels > HUGE else contextlib.nullcontext()


def _reduced(data: bytes, by: int) -> Raw:
    """A JPEG at a half, a quarter or an eighth of its size: fewer frequencies are put together, in far less time."""

    def use(image: Image.Image) -> Raw:
        image.draft(None, (image.width // by, image.height // by))
        return pillow_pixels(image)

    return with_pillow(data, check_size, use)


def _in_turn(image: Image.Image) -> Raw:
    with _turn(image.height * image.width):
        return pillow_pixels(image)


def _tiff(data: bytes, form: Form) -> Raw | None:
    """The picture of a TIFF that Pillow has no mode for, or whose equal pages are the channels; None: Pillow's."""
    channels = form.channels if form.pages else 1
    with pages(data, max(channels + 1, 4)) as found:  # a thumbnail may come first
        first, notes = main_page(found)
        each = first.bits // 8 or 1
        check_size(first.height, first.width, first.samples * each)
        if len(found) == channels > 1 and len({page.shape for page in found}) == 1 and first.samples == 1:
            check_size(first.height, first.width, channels * each)
            with _turn(first.height * first.width * channels // 3):
                planes = [page_values(page) for page in found]
            return Raw(np.concatenate(planes, 2), False, (f"its {channels} pages became channels",))  # H W C
        if first.plain and first.reduced:
            by_pillow = with_pillow(data, check_size, _in_turn)
            return by_pillow._replace(notes=notes + by_pillow.notes)
        if first.plain:
            return None
        if first.orientation > 1:
            notes += (f"turned upright by its EXIF orientation {first.orientation}",)
        with _turn(first.height * first.width * first.samples // 3):
            return Raw(page_values(first), first.opacity, notes)
