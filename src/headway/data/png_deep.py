"""PNG of 16 bits and several channels, which Pillow would cut to 8.

torchvision's decoder reads them, but ends the whole process where libpng stumbles over what is damaged. So what it is
given is a file made anew, of header and pixels alone, all of which have been looked through before: checksums, the
squeezed rows to their last byte, and the filter of each row (https://www.w3.org/TR/png-3/).
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from headway.data.form import Raw
from headway.data.jpeg import exif_orientation, find_operator
from headway.data.png import SIGNATURE, png_facts, png_fault
from headway.data.source import Unreadable
from headway.data.tiff import turned

_UNCHANGED = 0
"""torchvision's ImageReadMode.UNCHANGED."""
_decoder: Callable[..., Any] | None = find_operator("decode_png")
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row and column, and steps, of the passes of an interlaced picture."""
_FILTERS = 5


class _Parts(NamedTuple):
    """The chunks that count: the header, all pixels, the orientation and the one colour that is transparent, if any."""

    header: bytes
    pixels: bytes
    orientation: int
    clear: tuple[int, ...]


def deep_png(data: bytes) -> Raw | None:
    """H W C of uint16, upright; None where the decoder is not there. Raises Unreadable for a damaged file."""
    if _decoder is None:
        return None
    facts = png_facts(data)
    fault = png_fault(data)
    if fault or facts is None:
        raise Unreadable(fault or "damaged")
    parts = _parts(data)
    pixels = _looked_through(parts, facts.height, facts.width, 2 * (facts.channels + facts.opacity))
    clean = SIGNATURE + _chunk(b"IHDR", parts.header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    try:
        picture = _decoder(torch.frombuffer(bytearray(clean), dtype=torch.uint8), _UNCHANGED, False)  # C H W
    except RuntimeError as error:
        raise Unreadable("damaged: its pixels cannot be unpacked") from error
    values, opacity = np.ascontiguousarray(picture.permute(1, 2, 0).numpy()), facts.opacity  # H W C
    if len(parts.clear) == values.shape[2]:
        seen = (values != np.array(parts.clear, np.uint16)).any(2, keepdims=True)  # H W 1
        values, opacity = np.concatenate([values, seen * np.uint16(65535)], 2), True
    turn = (f"turned upright by its EXIF orientation {parts.orientation}",) if parts.orientation > 1 else ()
    return Raw(turned(values, parts.orientation), opacity, turn)


def clear_colour(data: bytes) -> bool:
    """Whether a PNG calls one colour, or shade of grey, transparent."""
    return data.find(b"tRNS", 33, data.find(b"IDAT")) > 0


def _parts(data: bytes) -> _Parts:
    header, pixels, orientation, clear = b"", list[bytes](), 1, tuple[int, ...]()
    for tag, body in _chunks(data):
        if tag == b"IHDR":
            header = header or body
        elif tag == b"IDAT":
            pixels.append(body)
        elif tag == b"eXIf":
            orientation = exif_orientation(body)
        elif tag == b"tRNS" and len(body) in (2, 6):
            clear = tuple(int.from_bytes(body[place : place + 2]) for place in range(0, len(body), 2))
    if len(header) != 13 or header[10] or header[11] or header[12] > 1:
        raise Unreadable("damaged: its header makes no sense")
    return _Parts(header, b"".join(pixels), orientation, clear)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each; raises Unreadable where one is cut short or is not what its checksum says."""
    place = len(SIGNATURE)
    while place + 12 <= len(data):
        length, tag = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        body = data[place + 8 : place + 8 + length]
        check = data[place + 8 + length : place + 12 + length]
        if len(check) < 4:
            break
        if zlib.crc32(body, zlib.crc32(tag)) == int.from_bytes(check):
            yield tag, body
        elif tag[:1].isupper():  # what can be done without begins with a small letter
            raise Unreadable(f"damaged: the checksum of its {tag.decode('latin-1')!r} is not the recorded one")
        if tag == b"IEND":
            return
        place += 12 + length
    raise Unreadable("truncated: a PNG without an end")


def _looked_through(parts: _Parts, height: int, width: int, each: int) -> bytes:
    """The squeezed pixels, once they are known to be whole: ``each`` bytes a pixel in rows that begin with a filter."""
    steps = _ADAM7 if parts.header[12] else ((0, 0, 1, 1),)
    passes = [(-(-(height - y) // dy), -(-(width - x) // dx)) for y, x, dy, dx in steps]
    shapes = [(rows, 1 + columns * each) for rows, columns in passes if rows > 0 and columns > 0]
    expected, unpack = sum(rows * row for rows, row in shapes), zlib.decompressobj()
    try:
        raw = unpack.decompress(parts.pixels, expected)
        more = unpack.decompress(unpack.unconsumed_tail, 1)
    except zlib.error as error:
        raise Unreadable(f"damaged: {error}") from error
    if len(raw) < expected or not unpack.eof:
        raise Unreadable("damaged: more pixels than it says" if more else "truncated: fewer pixels than it says")
    start = 0
    for rows, row in shapes:
        kinds = np.frombuffer(raw, np.uint8, rows * row, start)[::row]
        if int(kinds.max()) >= _FILTERS:
            raise Unreadable("damaged: a row of an unknown filter")
        start += rows * row
    return parts.pixels[: len(parts.pixels) - len(unpack.unused_data)]


def _chunk(tag: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + tag + body + zlib.crc32(body, zlib.crc32(tag)).to_bytes(4)
