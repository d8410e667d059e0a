"""Statistics of a sample of a data set: the median size of its images, and the pixel format to store them in."""

import contextlib
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from torch import Tensor

from headway.data.decoding.decode import check_size, decode_native
from headway.data.decoding.header import read_header
from headway.data.decoding.pixel_format import (
    MAX_CHANNELS,
    RGB,
    NativeImage,
    PixelFormat,
    finite_min_max_count,
    standard_value_range,
)
from headway.data.sources.base import Remarks, Source
from headway.errors import HeadwayError, UnreadableImageError

SAMPLE_SIZE = 200
"""Number of images in the sample, evenly spaced over the data."""
VALUES_PER_IMAGE = 1000
"""Values of an image that are looked at for outliers."""
RANGE_PARTS, OUTLIER_SHARE = 100, 0.99
"""Where two of so many equal parts of the range hold this share of all values, a few values take nearly all of it."""
_stats_of_source: WeakKeyDictionary[Source, "SampleStats"] = WeakKeyDictionary()


class SampleStats(NamedTuple):
    """Statistics of a sample of a data set's images.

    Attributes:
        median_short_side: Median of the shorter sides, in pixels.
        num_read: Number of images of the sample that could be read.
        num_over_8_bits: Number of them with more than 8 bits per channel.
        pixel_format: Channels and value range for the data set.
        note: What is odd about the range of values; empty: nothing.
    """

    median_short_side: int
    num_read: int
    num_over_8_bits: int
    pixel_format: PixelFormat
    note: str = ""


class _ValueRange(NamedTuple):
    """The smallest and largest value of an image, whether its values are integers, and a sample of them."""

    low: float
    high: float
    is_integer: bool
    values: np.ndarray


def compute_sample_stats(
    source: Source, channels: int = 0, value_range: tuple[float, float] | None = None
) -> SampleStats:
    """Compute the statistics of a sample of the images. For images of 8 bits, only the headers are read.

    If more than half of the images have more than 8 bits, the data set is stored in float32, with one range that
    covers the sample's values.

    Args:
        source: The images.
        channels: C; 0: the most frequent number of channels, where gray of 8 bits counts as RGB.
        value_range: The values that become 0 and 1; None: measured if the images have more than 8 bits.

    Raises:
        HeadwayError: No image of the sample could be read, or ``channels`` or ``value_range`` is invalid.
    """
    if not 0 <= channels <= MAX_CHANNELS:
        raise HeadwayError(
            "value-out-of-range",
            f"--channels must lie in 0..{MAX_CHANNELS} (0: the most frequent number), got {channels}",
        )
    if value_range and not value_range[0] < value_range[1]:
        low, high = value_range
        raise HeadwayError(
            "value-out-of-range", f"--value-range needs two numbers, the smaller one first, got {low:g} {high:g}"
        )
    count = min(len(source), SAMPLE_SIZE)
    indices = [number * len(source) // count for number in range(count)]
    sides, channel_counts, errors = list[int](), Counter[int](), Remarks()
    num_over_8_bits, ranges = 0, list[_ValueRange]()
    for index in indices:
        try:
            pixels = source.image(index)
            given = source.read(index) if pixels is None else pixels
            height, width, num_channels, bits = _shape_and_depth(given)
            check_size(height, width)
        except (UnreadableImageError, OSError, ValueError) as error:
            errors.append((source.name(index), str(error)))
            continue
        sides.append(min(height, width))
        channel_counts[num_channels if bits > 8 or num_channels not in (1, 3) else RGB.channels] += 1
        if bits > 8:
            num_over_8_bits += 1
            with contextlib.suppress(UnreadableImageError):
                ranges += [] if value_range else [_value_range_of(given, channels)]
    if not sides:
        raise HeadwayError("unreadable-images", f"none of {count} images could be read{format_reasons(errors)}")
    most_frequent = channels or max(sorted(channel_counts), key=channel_counts.__getitem__)
    note = ""
    if value_range is None and 2 * num_over_8_bits > len(sides):
        value_range, note = _common_value_range(ranges), outlier_note([r.values for r in ranges], *_extremes(ranges))
    pixel_format = PixelFormat(most_frequent, value_range, pages_as_channels=channels > 1)
    return SampleStats(statistics.median_low(sides), len(sides), num_over_8_bits, pixel_format, note)


def set_sample_stats(source: Source, stats: SampleStats) -> None:
    """Store the statistics of a source, so that ``get_sample_stats`` does not compute them again."""
    with contextlib.suppress(TypeError):  # a source that cannot be a weak key is sampled again
        _stats_of_source[source] = stats


def get_sample_stats(source: Source) -> SampleStats:
    """The statistics of a source, computed once. If the source has its own pixel format, they contain that one."""
    with contextlib.suppress(TypeError):  # a source that cannot be a weak key is sampled again
        if source not in _stats_of_source:
            _stats_of_source[source] = _stats_in_own_format(source)
        return _stats_of_source[source]
    return _stats_in_own_format(source)


def _stats_in_own_format(source: Source) -> SampleStats:
    own = source.pixel_format
    if own is None:
        return compute_sample_stats(source)
    return compute_sample_stats(source, own.channels, own.value_range)._replace(pixel_format=own)


def median_short_side(source: Source) -> tuple[int, int]:
    """The median short side in pixels, and the number of images of the sample from which it was computed.

    Raises:
        HeadwayError: No image of the sample could be read.
    """
    stats = get_sample_stats(source)
    return stats.median_short_side, stats.num_read


def format_reasons(skipped: Sequence[tuple[str, str]]) -> str:
    """The first three errors, as text for the end of a message."""
    return "".join(f"; {name}: {reason}" for name, reason in skipped[:3])


def _shape_and_depth(given: Any) -> tuple[int, int, int, int]:
    """Height, width, channels and bits per channel of an encoded file or a decoded image (C H W)."""
    if isinstance(given, Tensor):
        channels, height, width = given.shape
        return height, width, channels, given.element_size() * 8
    header = read_header(given)
    return header.height, header.width, header.channels, header.bit_depth


def _value_range_of(given: Any, channels: int) -> _ValueRange:
    """The range of an image's values. Raises UnreadableImageError if no value is finite."""
    if isinstance(given, Tensor):
        native = NativeImage(given.numpy())
    else:
        native = decode_native(given, PixelFormat(channels or 1, pages_as_channels=channels > 1))
    values = native.values[..., :-1] if native.has_alpha else native.values
    low, high, _ = finite_min_max_count(values)
    return _ValueRange(low, high, values.dtype.kind in "iub", _evenly_spaced(values))


def _evenly_spaced(values: np.ndarray) -> np.ndarray:
    """At most some VALUES_PER_IMAGE of the finite values, as float64."""
    flat = values.reshape(-1)
    sample = flat[:: max(len(flat) // VALUES_PER_IMAGE, 1)].astype(np.float64)
    return sample[np.isfinite(sample)]


def _extremes(ranges: Sequence[_ValueRange]) -> tuple[float, float]:
    """The smallest and largest value of all images; 0 and 1 without images."""
    return min((r.low for r in ranges), default=0.0), max((r.high for r in ranges), default=1.0)


def outlier_note(samples: Sequence[np.ndarray], low: float, high: float) -> str:
    """A sentence about a few values that take nearly the whole range, so that all others look alike; else empty.

    It is so where two of RANGE_PARTS equal parts of the range hold nearly all values, and those in the fuller part
    differ. A mask of two values is no such case.

    Args:
        samples: Finite values of each image.
        low: The smallest value of all images.
        high: The largest.
    """
    values = np.concatenate(samples) if samples else np.empty(0)
    if not len(values) or not high > low:
        return ""
    parts = np.minimum((RANGE_PARTS * ((values - low) / (high - low))).astype(np.int64), RANGE_PARTS - 1)
    counts = np.bincount(parts, minlength=RANGE_PARTS)
    inside = values[parts == counts.argmax()]
    if np.sort(counts)[-2:].sum() < OUTLIER_SHARE * len(values) or len(np.unique(inside)) <= 2:
        return ""
    first, last = inside.min(), inside.max()
    extreme = low if first - low > high - last else high
    return (
        f"values reach from {low:g} to {high:g}, but nearly all lie between {first:g} and {last:g}, so that images "
        f"hardly differ: give --value-range {first:g} {last:g} if {extreme:g} stands for missing data or is an error"
    )


def _common_value_range(ranges: Sequence[_ValueRange]) -> tuple[float, float]:
    """The standard range that covers the values of these images; 0 to 1 without images."""
    lowest, highest = _extremes(ranges)
    low, high = standard_value_range(lowest, highest, all(r.is_integer for r in ranges))
    return low, max(high, low + 1e-6)
