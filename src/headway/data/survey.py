"""A first look at a data set: how large its pictures are, and the form in which they will be stored."""

import contextlib
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from torch import Tensor

from headway.data.decode import check_size, read_raw
from headway.data.form import MOST_CHANNELS, RGB, Form, Raw, extremes, span_of
from headway.data.look import look
from headway.data.source import Source, Unreadable
from headway.errors import HeadwayError

SAMPLE = 200
"""Pictures that are looked at, spread evenly over the data."""
_known: WeakKeyDictionary[Source, "Survey"] = WeakKeyDictionary()


class Survey(NamedTuple):
    """What the sample says.

    Attributes:
        natural: Median short side in pixels.
        looked: Pictures of the sample that could be read.
        deep: How many of them have more than 8 bits a channel.
        form: Channels and range of the data set.
    """

    natural: int
    looked: int
    deep: int
    form: Form


class _Range(NamedTuple):
    """The smallest and largest value of a picture, and whether they are whole numbers."""

    low: float
    high: float
    whole: bool


def survey(source: Source, channels: int = 0, span: tuple[float, float] | None = None, sample: int = SAMPLE) -> Survey:
    """Look at a sample of the pictures, by their headers where they have 8 bits.

    Where more than half of them are deeper the data set is kept above 8 bits, with the one range that the sample's
    values belong to.

    Args:
        source: The pictures.
        channels: C; 0: that of most pictures, grey of 8 bits counted as RGB.
        span: The values that become 0 and 1; none: measured where the pictures have more than 8 bits.
        sample: How many are looked at.

    Raises:
        HeadwayError: Not one of them could be read, or channels or span make no sense.
    """
    if not 0 <= channels <= MOST_CHANNELS:
        raise HeadwayError(f"--channels must lie in 0..{MOST_CHANNELS} (0: as most pictures have), got {channels}")
    if span and not span[0] < span[1]:
        raise HeadwayError(f"--span needs two numbers of which the first is smaller, got {span[0]:g} {span[1]:g}")
    count = min(len(source), sample)
    indices = [place * len(source) // count for place in range(count)]
    sides, kinds, faults = list[int](), Counter[int](), list[tuple[str, str]]()
    deep, ranges = 0, list[_Range]()
    draw = getattr(source, "image", None)
    for index in indices:
        try:
            given = draw(index) if draw else source.read(index)
            height, width, found, bits = _shape(given)
            check_size(height, width)
        except (Unreadable, OSError, ValueError) as error:
            faults.append((source.name(index), str(error)))
            continue
        sides.append(min(height, width))
        kinds[found if bits > 8 or found not in (1, 3) else RGB.channels] += 1
        if bits > 8:
            deep += 1
            with contextlib.suppress(Unreadable):
                ranges += [] if span else [_range(given, channels)]
    if not sides:
        raise HeadwayError(f"none of {count} pictures could be read{reasons(faults)}")
    most = channels or max(sorted(kinds), key=lambda kind: kinds[kind])
    if span is None and 2 * deep > len(sides):
        span = _span(ranges)
    return Survey(statistics.median_low(sides), len(sides), deep, Form(most, span, pages=channels > 1))


def remember(source: Source, found: Survey) -> None:
    """Keep what a survey of this source said, so that it isn't looked at again."""
    with contextlib.suppress(TypeError):  # what cannot be remembered will be
        _known[source] = found


def surveyed(source: Source) -> Survey:
    """As ``survey``, once a source; where the source has a form of its own, in that."""
    with contextlib.suppress(TypeError):  # what cannot be remembered is looked at again
        if source not in _known:
            _known[source] = _in_its_form(source)
        return _known[source]
    return _in_its_form(source)


def _in_its_form(source: Source) -> Survey:
    form: Form | None = getattr(source, "form", None)
    return survey(source, form.channels, form.span)._replace(form=form) if form else survey(source)


def natural_size(source: Source) -> tuple[int, int]:
    """The median short side in pixels, and how many pictures of a sample spread evenly over the data it was taken of.

    Raises:
        HeadwayError: Not one of them could be read.
    """
    found = surveyed(source)
    return found.natural, found.looked


def reasons(skipped: Sequence[tuple[str, str]]) -> str:
    """The first few faults, for the end of a sentence."""
    return "".join(f"; {name}: {reason}" for name, reason in skipped[:3])


def _shape(given: Any) -> tuple[int, int, int, int]:
    """Height, width, channels and bits a channel, of a file or of a picture that is decoded already."""
    if isinstance(given, Tensor):
        channels, height, width = given.shape
        return height, width, channels, given.element_size() * 8
    found = look(given)
    return found.height, found.width, found.channels, found.bits


def _range(given: Any, channels: int) -> _Range:
    """Between which values a picture lies. Raises Unreadable where there is none."""
    raw = Raw(given.numpy()) if isinstance(given, Tensor) else read_raw(given, Form(channels or 1, pages=channels > 1))
    values = raw.values[..., :-1] if raw.opacity else raw.values
    return _Range(*extremes(values), values.dtype.kind in "iub")


def _span(ranges: Sequence[_Range]) -> tuple[float, float]:
    """The range that the values of these pictures belong to; 0 to 1 where none could be read."""
    least, most = min((found.low for found in ranges), default=0.0), max((found.high for found in ranges), default=1.0)
    low, high = span_of(least, most, all(found.whole for found in ranges))
    return low, max(high, low + 1e-6)
