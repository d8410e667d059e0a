"""PNG: the header, its errors, and a decoder of 16-bit channels, which Pillow would reduce to 8 bits. WebP: the size.

torchvision decodes 16-bit PNG, but it ends the whole process if libpng fails on damaged data. So it gets a new file of
header and pixels alone, whose checksums, compressed rows and row filters were all validated before
(https://www.w3.org/TR/png-3/).
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from headway.data.decoding.jpeg import exif_orientation, find_torchvision_operator
from headway.data.decoding.pixel_format import NativeImage, orientation_notes
from headway.data.decoding.tiff import apply_orientation
from headway.errors import UnreadableImageError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BIT_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Valid bit depths by color type."""
_UNCHANGED = 0
"""torchvision's ImageReadMode.UNCHANGED."""
_decoder: Callable[..., Any] | None = find_torchvision_operator("decode_png")
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""Passes of an interlaced image: first row, first column, row step, column step."""
_NUM_FILTERS = 5
"""Number of filter types of a row."""


class PngHeader(NamedTuple):
    """The content of a PNG's header. ``channels`` does not count alpha; ``bit_depth`` is per channel."""

    height: int
    width: int
    channels: int
    bit_depth: int
    has_alpha: bool


def read_png_header(data: bytes) -> PngHeader | None:
    """Read the header of a PNG (https://www.w3.org/TR/png-3/#11IHDR); None for anything else."""
    if data[:8] != PNG_SIGNATURE or data[12:16] != b"IHDR" or len(data) < 26:
        return None
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    color_type = data[25]
    return PngHeader(height, width, 3 if color_type & 2 else 1, data[24], bool(color_type & 4))


def png_error(data: bytes) -> str | None:
    """The error in a PNG's header; None if there is none, or if the file is not a PNG."""
    header = read_png_header(data)
    if header is None:
        return "truncated: a PNG without its header" if data[:8] == PNG_SIGNATURE else None
    if not (header.height and header.width):
        return f"damaged: a PNG of {header.width} x {header.height} pixels"
    color_type = data[25]
    if color_type not in _BIT_DEPTHS or header.bit_depth not in _BIT_DEPTHS[color_type]:
        return f"damaged: a PNG of {header.bit_depth} bits and color type {color_type}, an invalid combination"
    start = data.find(b"IDAT")
    if start < 0:
        return "truncated: a PNG without pixels"
    return "damaged: a PNG without its palette" if color_type == 3 and b"PLTE" not in data[:start] else None


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a WebP, read before Pillow allocates two frames for it; None for anything else.

    RFC 9649 (https://www.rfc-editor.org/rfc/rfc9649.html).
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    chunk = data[12:16]
    if chunk == b"VP8X":
        return int.from_bytes(data[27:30], "little") + 1, int.from_bytes(data[24:27], "little") + 1
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if chunk == b"VP8 ":
        return int.from_bytes(data[28:30], "little") & 0x3FFF, int.from_bytes(data[26:28], "little") & 0x3FFF
    return None


class _PngChunks(NamedTuple):
    """The chunks that are decoded: header, compressed pixels, EXIF orientation and the transparent color, if any."""

    header: bytes
    compressed_pixels: bytes
    orientation: int
    transparent_color: tuple[int, ...]


def decode_png16(data: bytes) -> NativeImage | None:
    """Decode to H W C, uint16, upright; None if the decoder is missing. Raises UnreadableImageError if damaged."""
    if _decoder is None:
        return None
    header = read_png_header(data)
    problem = png_error(data)
    if problem or header is None:
        raise UnreadableImageError(problem or "damaged")
    chunks = _collect_chunks(data)
    pixels = _validated_pixels(chunks, header.height, header.width, 2 * (header.channels + header.has_alpha))
    validated_chunks = (b"IHDR", chunks.header), (b"IDAT", pixels), (b"IEND", b"")
    validated_file = PNG_SIGNATURE + b"".join(
        len(body).to_bytes(4) + tag + body + zlib.crc32(body, zlib.crc32(tag)).to_bytes(4)
        for tag, body in validated_chunks
    )
    try:
        image = _decoder(torch.frombuffer(bytearray(validated_file), dtype=torch.uint8), _UNCHANGED, False)  # C H W
    except RuntimeError as error:
        raise UnreadableImageError("damaged: its pixels cannot be decompressed") from error
    values, has_alpha = np.ascontiguousarray(image.permute(1, 2, 0).numpy()), header.has_alpha  # H W C
    if len(chunks.transparent_color) == values.shape[2]:
        opaque = (values != np.array(chunks.transparent_color, np.uint16)).any(2, keepdims=True)  # H W 1
        values, has_alpha = np.concatenate([values, opaque * np.uint16(65535)], 2), True
    return NativeImage(apply_orientation(values, chunks.orientation), has_alpha, orientation_notes(chunks.orientation))


def has_transparent_color(data: bytes) -> bool:
    """Whether a PNG declares one color or gray value transparent."""
    return data.find(b"tRNS", 33, data.find(b"IDAT")) > 0


def _collect_chunks(data: bytes) -> _PngChunks:
    header, compressed_pixels, orientation, transparent_color = b"", list[bytes](), 1, tuple[int, ...]()
    for tag, body in _iter_chunks(data):
        if tag == b"IHDR":
            header = header or body
        elif tag == b"IDAT":
            compressed_pixels.append(body)
        elif tag == b"eXIf":
            orientation = exif_orientation(body)
        elif tag == b"tRNS" and len(body) in (2, 6):
            transparent_color = tuple(int.from_bytes(body[offset : offset + 2]) for offset in range(0, len(body), 2))
    if len(header) != 13 or header[10] or header[11] or header[12] > 1:
        raise UnreadableImageError("damaged: an invalid header")
    return _PngChunks(header, b"".join(compressed_pixels), orientation, transparent_color)


def _iter_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the tag and content of each chunk. Raises UnreadableImageError for a truncated or damaged chunk."""
    offset = len(PNG_SIGNATURE)
    while offset + 12 <= len(data):
        length, tag = int.from_bytes(data[offset : offset + 4]), data[offset + 4 : offset + 8]
        body = data[offset + 8 : offset + 8 + length]
        check = data[offset + 8 + length : offset + 12 + length]
        if len(check) < 4:
            break
        if zlib.crc32(body, zlib.crc32(tag)) == int.from_bytes(check):
            yield tag, body
        elif tag[:1].isupper():  # critical chunks start with a capital, others may be ignored
            raise UnreadableImageError(f"damaged: the checksum of its chunk {tag.decode('latin-1')!r} is wrong")
        if tag == b"IEND":
            return
        offset += 12 + length
    raise UnreadableImageError("truncated: a PNG without its end")


def _validated_pixels(chunks: _PngChunks, height: int, width: int, bytes_per_pixel: int) -> bytes:
    """Return the compressed pixels after validating them: complete rows, each starting with a known filter type."""
    steps = _ADAM7 if chunks.header[12] else ((0, 0, 1, 1),)
    passes = [(-(-(height - y) // dy), -(-(width - x) // dx)) for y, x, dy, dx in steps]
    shapes = [(rows, 1 + columns * bytes_per_pixel) for rows, columns in passes if rows > 0 and columns > 0]
    expected, unpack = sum(rows * row for rows, row in shapes), zlib.decompressobj()
    try:
        raw = unpack.decompress(chunks.compressed_pixels, expected)
        more = unpack.decompress(unpack.unconsumed_tail, 1)
    except zlib.error as error:
        raise UnreadableImageError(f"damaged: {error}") from error
    if len(raw) < expected or not unpack.eof:
        problem = "damaged: more" if more else "truncated: fewer"
        raise UnreadableImageError(f"{problem} pixels than its header says")
    start = 0
    for rows, row in shapes:
        filters = np.frombuffer(raw, np.uint8, rows * row, start)[::row]
        if int(filters.max()) >= _NUM_FILTERS:
            raise UnreadableImageError("damaged: a row with an unknown filter")
        start += rows * row
    return chunks.compressed_pixels[: len(chunks.compressed_pixels) - len(unpack.unused_data)]
