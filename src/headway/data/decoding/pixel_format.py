"""The common pixel format of all images of a data set: the number of channels and the values that become 0 and 1.

    8 bits     stays 8 bits: uint8
    more       x = clip((value - low) / (high - low), 0, 1), float32, with one (low, high) for the whole data set

In a data set of 8 bits, a single image of more bits is scaled by its own range. Integers of 0 or more keep 0 as black;
white is the maximum of the smallest of the ranges of 8, 10, 12, 14 or 16 bits that contains the brightest pixel. Floats
within [0, 1] keep their range. All other numbers are scaled from their minimum to their maximum. Values that are not
finite become black.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from headway.errors import UnreadableImageError
from headway.protocol import InputSpec

LUMA_WEIGHTS = np.array((0.299, 0.587, 0.114), np.float32)
"""Weights of red, green and blue in luma (ITU-R BT.601), as in Pillow."""
MAX_CHANNELS = 512
"""Maximum number of channels of an image."""
VALUES_PER_CHUNK = 1 << 20
"""Values that are converted to float64 at a time, so that the conversion needs little memory beyond its result."""


class PixelFormat(NamedTuple):
    """The format to which every image of a data set is converted.

    Attributes:
        channels: C. Three channels are red, green and blue.
        value_range: The values that become 0 and 1 in float32; None: 8 bits, stored as uint8.
        pages_as_channels: Whether C equal gray pages of a TIFF are one image. True if the user gave the number C.
    """

    channels: int = 3
    value_range: tuple[float, float] | None = None
    pages_as_channels: bool = False

    @property
    def is_rgb8(self) -> bool:
        """Whether this is RGB of 8 bits."""
        return self[:2] == RGB[:2]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of stored images."""
        return torch.uint8 if self.value_range is None else torch.float32

    def image_bytes(self, side: int) -> int:
        """Bytes of a stored image of this side."""
        return self.channels * side * side * self.dtype.itemsize


RGB = PixelFormat()
"""RGB of 8 bits, the default."""


class NativeImage(NamedTuple):
    """A decoded image in its file's own channels and numbers.

    Attributes:
        values: H W C, any numeric dtype.
        has_alpha: Whether the last channel is alpha.
        notes: What a user should know about how the file was read.
    """

    values: np.ndarray
    has_alpha: bool = False
    notes: tuple[str, ...] = ()


def orientation_notes(orientation: int) -> tuple[str, ...]:
    """The note on an image that was turned upright, if it was."""
    return (f"turned upright by its EXIF orientation {orientation}",) if orientation > 1 else ()


def pixel_format_of(input_spec: InputSpec) -> PixelFormat:
    """The pixel format of the images on which a backbone was trained.

    With other channels than 1 (gray) and 3 (RGB), pages are channels even if the backbone's files do not say so.
    """
    channels, pages_as_channels = input_spec.channels, input_spec.pages_as_channels
    return PixelFormat(channels, input_spec.value_range, pages_as_channels or channels not in (1, 3))


def standard_value_range(low: float, high: float, is_integer: bool) -> tuple[float, float]:
    """The range (black, white) for values from ``low`` to ``high``, by the rule at the top of the file.

    Args:
        low: The smallest finite value.
        high: The largest finite value.
        is_integer: Whether the values are integers.
    """
    if is_integer and low >= 0 and high < 1 << 16:
        return 0.0, float((1 << max(8, math.ceil(math.log2(high + 1) / 2) * 2)) - 1)
    if not is_integer and low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high


def finite_min_max_count(values: np.ndarray) -> tuple[float, float, int]:
    """The smallest and the largest finite value, and the number of values that are not finite."""
    count = values.size
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        raise UnreadableImageError("damaged: it contains no finite number")
    return float(values.min()), float(values.max()), count - values.size


def convert(native: NativeImage, pixel_format: PixelFormat) -> tuple[Tensor, tuple[str, ...]]:
    """Convert an image to the data set's pixel format.

    For three channels, gray is repeated; for one channel, color becomes luma; transparent parts are composited on
    white.

    Args:
        native: The decoded image.
        pixel_format: The data set's pixel format.

    Returns:
        C H W, uint8 or float32 in [0, 1], and the notes on the image.

    Raises:
        UnreadableImageError: The image's channels cannot be converted to the data set's.
    """
    values, notes, alpha = native.values, native.notes, None
    if native.has_alpha and values.shape[2] != pixel_format.channels:
        values, alpha = values[..., :-1], values[..., -1:]
    channels, wanted = values.shape[2], pixel_format.channels
    if channels != wanted and (channels, wanted) not in ((1, 3), (3, 1)):
        raise UnreadableImageError(f"{channels} channels, where the data set has {wanted}")
    pixels, scaled = _scale_values(values, pixel_format)
    notes += scaled
    if alpha is not None:
        pixels = _map_row_chunks(_composite_on_white, pixels, alpha)
        notes += ("transparent parts were composited on white",)
    if channels > wanted:
        pixels = _map_row_chunks(_to_luma, pixels)
    planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)  # C H W
    return (planes.expand(wanted, -1, -1) if channels < wanted else planes), notes


def _scale_values(values: np.ndarray, pixel_format: PixelFormat) -> tuple[np.ndarray, tuple[str, ...]]:
    """Scale to H W C, uint8, or float32 in [0, 1] with a value range. Notes state the range used and values lost."""
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint8:
        return (values, ()) if pixel_format.value_range is None else (values.astype(np.float32) / 255, ())
    lowest, highest, non_finite = finite_min_max_count(values)
    notes = (f"{non_finite:,} numbers that are not finite became black",) if non_finite else ()
    if pixel_format.value_range is None:
        low, high = standard_value_range(lowest, highest, values.dtype.kind in "iu")
        return _rescale(values, low, high, np.uint8), (*notes, f"{low + 0.0:g} became black and {high + 0.0:g} white")
    low, high = pixel_format.value_range
    lost = lowest < low or highest > high
    return _rescale(values, low, high, np.float32), (*notes, *(["clipped to the data set's range"] if lost else []))


def _rescale(values: np.ndarray, low: float, high: float, dtype: type[np.generic]) -> np.ndarray:
    """Map low..high linearly to 0..255 (uint8) or 0..1."""
    top = 255.0 if dtype is np.uint8 else 1.0

    def rescale(chunk: np.ndarray) -> np.ndarray:
        values64 = chunk.astype(np.float64)
        if chunk.dtype.kind == "f":
            values64[~np.isfinite(values64)] = low
        return _round_to_dtype(dtype, np.clip((values64 - low) * (top / max(high - low, 1e-12)), 0, top))

    return _map_row_chunks(rescale, values)


def _composite_on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Composite H W C on white; ``alpha`` is H W 1 in the file's own numbers."""
    opacity = alpha.astype(np.float32) / (np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1)
    white = 255 if pixels.dtype == np.uint8 else 1
    return _round_to_dtype(pixels.dtype.type, np.clip(pixels * opacity + white * (1 - opacity), 0, white))


def _to_luma(pixels: np.ndarray) -> np.ndarray:
    return _round_to_dtype(pixels.dtype.type, (pixels @ LUMA_WEIGHTS)[..., None])  # H W 1


def _round_to_dtype(dtype: type[np.generic], values: np.ndarray) -> np.ndarray:
    return np.rint(values).astype(dtype) if dtype is np.uint8 else values.astype(dtype)


def _map_row_chunks(fn: Callable[..., np.ndarray], *images: np.ndarray) -> np.ndarray:
    """``fn(*images)``, a few rows at a time, so that temporary memory does not grow with the image."""
    height, rows = len(images[0]), max(VALUES_PER_CHUNK // max(math.prod(images[0].shape[1:]), 1), 1)
    with np.errstate(all="ignore"):  # damaged floats may overflow; values that are not finite are replaced
        first = fn(*(image[:rows] for image in images))
        result = np.empty((height, *first.shape[1:]), first.dtype)
        result[:rows] = first
        for start in range(rows, height, rows):
            result[start : start + rows] = fn(*(image[start : start + rows] for image in images))
    return result
