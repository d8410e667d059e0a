"""Formats that are a header and an uncompressed array: PPM of 16 bits (P6), PFM (PF) and NumPy's .npy.

Pillow would reduce the first to 8 bits and does not read the others. A .npy is H W, H W C or C H W; pickled objects are
never loaded. Netpbm: https://netpbm.sourceforge.net/doc/ppm.html. PFM: Debevec,
https://www.pauldebevec.com/Research/HDR/PFM/.
"""

import io
import re
from typing import NamedTuple

import numpy as np

from headway.data.decoding.pixel_format import MAX_CHANNELS, NativeImage
from headway.errors import UnreadableImageError

_PNM_HEADER = re.compile(rb"(P6|PF)((?:\s+|#[^\n]*\n)+)(\d+)((?:\s+|#[^\n]*\n)+)(\d+)((?:\s+|#[^\n]*\n)+)(-?[\d.]+)\s")


class PnmHeader(NamedTuple):
    """The content of the header. ``max_value`` is white (0: no such value); the pixels begin at ``data_offset``."""

    height: int
    width: int
    dtype: np.dtype
    max_value: int
    data_offset: int


def read_pnm_header(data: bytes) -> PnmHeader | None:
    """Read the header of a PPM of 16 bits or a color PFM; None for anything else, which Pillow reads."""
    match = _PNM_HEADER.match(data[:1000]) if data[:2] in (b"P6", b"PF") else None
    if match is None:
        return None
    width, height, max_value = int(match[3]), int(match[5]), float(match[7])
    if match[1] == b"PF":
        return PnmHeader(height, width, np.dtype("<f4" if max_value < 0 else ">f4"), 0, match.end())
    return PnmHeader(height, width, np.dtype(">u2"), int(max_value), match.end()) if 255 < max_value < 65536 else None


def decode_pnm(data: bytes, header: PnmHeader) -> NativeImage:
    """Decode to H W 3, uint16 (white is 65535) or float32. Raises UnreadableImageError if truncated or empty."""
    count = header.height * header.width * 3
    if not count:
        raise UnreadableImageError(f"damaged: an image of {header.width} x {header.height} pixels")
    if len(data) - header.data_offset < count * header.dtype.itemsize:
        raise UnreadableImageError("truncated")
    values = np.frombuffer(data, header.dtype, count, header.data_offset)
    values = values.reshape(header.height, header.width, 3)  # H W 3
    if not header.max_value:
        return NativeImage(values[::-1].astype(np.float32), False)  # PFM stores the bottom row first
    scaled = values.astype(np.uint32) * 65535 // header.max_value if header.max_value < 65535 else values
    return NativeImage(scaled.astype(np.uint16), False)


def is_npy(data: bytes) -> bool:
    """Whether the bytes start with the signature of .npy."""
    return data[:6] == b"\x93NUMPY"


def read_npy_header(data: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype from the header. Raises UnreadableImageError if the array is not an image."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except Exception as error:  # NumPy raises many types of exceptions for a damaged header
        raise UnreadableImageError("damaged: an invalid header") from error
    if dtype.hasobject or dtype.kind not in "buif":
        raise UnreadableImageError(f"an array of {dtype}, which is not a dtype of pixels")
    if len(shape) not in (2, 3) or not all(side > 0 for side in shape):
        raise UnreadableImageError(f"an array of shape {shape}; an image is H W, H W C or C H W")
    return tuple(int(side) for side in shape), dtype


def infer_hwc(shape: tuple[int, ...], channels: int = 0) -> tuple[int, int, int]:
    """Height, width and channels of an array's shape.

    The channel axis is the first or last one: the one of length ``channels``, else the shorter one.

    Args:
        shape: Two or three lengths.
        channels: C of the data set; 0: unknown.
    """
    if len(shape) == 2:
        return shape[0], shape[1], 1
    channels_first = shape[0] == channels if channels in (shape[0], shape[2]) else shape[0] < shape[2]
    if shape[2] == channels:
        channels_first = False
    return (shape[1], shape[2], shape[0]) if channels_first else (shape[0], shape[1], shape[2])


def decode_npy(data: bytes, channels: int) -> NativeImage:
    """Decode to H W C. Raises UnreadableImageError if it is no image, truncated, or has over MAX_CHANNELS channels."""
    shape, dtype = read_npy_header(data)
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UnreadableImageError("truncated") from error
    height, width, count = infer_hwc(shape, channels)
    if count > MAX_CHANNELS:
        raise UnreadableImageError(f"an array of shape {shape}: {count} channels are too many (at most {MAX_CHANNELS})")
    if len(shape) == 3 and (height, width, count) != shape:
        values = np.moveaxis(values, 0, 2)
    return NativeImage(values.reshape(height, width, count).astype(dtype.newbyteorder("="), copy=False))
