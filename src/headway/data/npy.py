"""NumPy's .npy: a picture as an array, H W or H W C or C H W. Pickled objects are never loaded."""

import io

import numpy as np

from headway.data.form import MOST_CHANNELS, Raw
from headway.data.source import Unreadable


def is_npy(data: bytes) -> bool:
    """Whether the bytes begin as NumPy's files do."""
    return data[:6] == b"\x93NUMPY"


def npy_shape(data: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype by the header alone. Raises Unreadable for what is no picture."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except Exception as error:  # a damaged header raises nearly anything
        raise Unreadable("damaged: its header makes no sense") from error
    if dtype.hasobject or dtype.kind not in "buif":
        raise Unreadable(f"an array of {dtype}, which is no number of a pixel")
    if len(shape) not in (2, 3) or not all(side > 0 for side in shape):
        raise Unreadable(f"an array of shape {shape}; a picture is H W, H W C or C H W")
    return tuple(int(side) for side in shape), dtype


def layout(shape: tuple[int, ...], channels: int = 0) -> tuple[int, int, int]:
    """Height, width and channels of an array's shape; C is the axis that has as many, else the shorter of both ends.

    Args:
        shape: Two or three sides.
        channels: C of the data set; 0: not known.
    """
    if len(shape) == 2:
        return shape[0], shape[1], 1
    first = shape[0] == channels if channels in (shape[0], shape[2]) else shape[0] < shape[2]
    if shape[2] == channels:
        first = False
    return (shape[1], shape[2], shape[0]) if first else (shape[0], shape[1], shape[2])


def read_npy(data: bytes, channels: int = 0) -> Raw:
    """The array as H W C. Raises Unreadable for what is no picture, truncated, or of more than MOST_CHANNELS."""
    shape, dtype = npy_shape(data)
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise Unreadable("truncated") from error
    height, width, count = layout(shape, channels)
    if count > MOST_CHANNELS:
        raise Unreadable(f"an array of shape {shape}: {count} channels are too many (at most {MOST_CHANNELS})")
    if len(shape) == 3 and (height, width, count) != shape:
        values = np.moveaxis(values, 0, 2)
    return Raw(values.reshape(height, width, count).astype(dtype.newbyteorder("="), copy=False))
