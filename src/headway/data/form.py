"""The one form that all pictures of a data set are brought into: how many channels, and which values become 0 and 1.

    8 bits     stay 8 bits: uint8
    more       x = clip((value - low) / (high - low), 0, 1), float32, with one (low, high) for the whole data set

Where a single deeper picture lies in a data set of 8 bits it is scaled by its own range: 0 stays black, white is the
end of the smallest of the ranges 8, 10, 12, 14, 16 bits that holds its brightest pixel; floats within [0, 1] are taken
as they are; any other numbers are stretched from their smallest to their largest. What is no finite number is black.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from headway.data.source import Unreadable
from headway.protocol import Inputs

LUMA = np.array((0.299, 0.587, 0.114), np.float32)
"""Weights of red, green and blue in lightness (ITU-R BT.601), as Pillow takes them."""
MOST_CHANNELS = 512
"""Of a picture."""
AT_ONCE = 1 << 20
"""Values that are widened at a time, so that deep pictures take no more memory than their result."""


class Form(NamedTuple):
    """What every picture of a data set becomes.

    Attributes:
        channels: C. Three of them are red, green and blue.
        span: The values that become 0 and 1 in float32; None: 8 bits, stored as uint8.
        pages: Whether C equal grey pages of a TIFF are one picture: where somebody asked for C channels.
    """

    channels: int = 3
    span: tuple[float, float] | None = None
    pages: bool = False

    @property
    def plain(self) -> bool:
        """Whether pictures become red, green and blue of 8 bits."""
        return self[:2] == RGB[:2]

    @property
    def dtype(self) -> torch.dtype:
        """Of stored pictures."""
        return torch.uint8 if self.span is None else torch.float32


RGB = Form()
"""Red, green and blue of 8 bits: what pictures become where nothing else is asked for."""


class Raw(NamedTuple):
    """A picture as its file holds it.

    Attributes:
        values: H W C, any numbers.
        opacity: Whether the last channel says how opaque a pixel is.
        notes: What a person should know of how it was read.
    """

    values: np.ndarray
    opacity: bool = False
    notes: tuple[str, ...] = ()


def form_of(inputs: Inputs) -> Form:
    """The form in which a backbone was shown its pictures.

    Backbones of one and three channels apart, which are grey or colour, older ones don't say what was asked for.
    """
    return Form(inputs.channels, inputs.span, inputs.pages or inputs.channels not in (1, 3))


def span_of(low: float, high: float, whole: bool) -> tuple[float, float]:
    """The range that values from ``low`` to ``high`` belong to, by the rule above.

    Args:
        low: The smallest finite value.
        high: The largest.
        whole: Whether they are whole numbers.
    """
    if whole and low >= 0 and high < 1 << 16:
        return 0.0, float((1 << max(8, math.ceil(math.log2(high + 1) / 2) * 2)) - 1)
    if not whole and low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high


def extremes(values: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest finite value. Raises Unreadable where there is none."""
    least, most, _ = _finite_extremes(values)
    return least, most


def _finite_extremes(values: np.ndarray) -> tuple[float, float, int]:
    """The smallest and the largest finite value, and how many are not finite."""
    count = values.size
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        raise Unreadable("damaged: not one number in it is finite")
    return float(values.min()), float(values.max()), count - values.size


def bring(raw: Raw, form: Form) -> tuple[Tensor, tuple[str, ...]]:
    """A picture in the data set's form, and the notes on it.

    Grey fills three channels, colour becomes lightness for one, transparent parts lie on white.

    Args:
        raw: As decoded.
        form: Of the data set.

    Returns:
        C H W, uint8 or float32 in [0, 1].

    Raises:
        Unreadable: Where its channels cannot become the data set's.
    """
    values, notes, over = raw.values, raw.notes, None
    if raw.opacity and values.shape[2] != form.channels:
        values, over = values[..., :-1], values[..., -1:]
    channels, wanted = values.shape[2], form.channels
    if channels != wanted and (channels, wanted) not in ((1, 3), (3, 1)):
        raise Unreadable(f"{channels} channels, where the data set has {wanted}")
    pixels, scaled = _scale(values, form)
    notes += scaled
    if over is not None:
        pixels = _by_rows(_on_white, pixels, over)
        notes += ("transparent parts lie on white",)
    if channels > wanted:
        pixels = _by_rows(_lightness, pixels)
    planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)  # C H W
    return (planes.expand(wanted, -1, -1) if channels < wanted else planes), notes


def _scale(values: np.ndarray, form: Form) -> tuple[np.ndarray, tuple[str, ...]]:
    """H W C, uint8, or float32 in [0, 1] where the form has a span; with a note where anything was chosen or lost."""
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint8:
        return (values, ()) if form.span is None else (values.astype(np.float32) / 255, ())
    least, most, odd = _finite_extremes(values)
    notes = (f"{odd:,} numbers that are not finite became black",) if odd else ()
    if form.span is None:
        low, high = span_of(least, most, values.dtype.kind in "iu")
        return _stretched(values, low, high, np.uint8), (*notes, f"{low + 0.0:g} became black and {high + 0.0:g} white")
    low, high = form.span
    lost = least < low or most > high
    return _stretched(values, low, high, np.float32), (*notes, *(["clipped to the data set's range"] if lost else []))


def _stretched(values: np.ndarray, low: float, high: float, kind: type[np.generic]) -> np.ndarray:
    """From low..high to 0..255 or 0..1."""
    top = 255.0 if kind is np.uint8 else 1.0

    def stretch(some: np.ndarray) -> np.ndarray:
        wide = some.astype(np.float64)
        if some.dtype.kind == "f":
            wide[~np.isfinite(wide)] = low
        return _as(kind, np.clip((wide - low) * (top / max(high - low, 1e-12)), 0, top))

    return _by_rows(stretch, values)


def _on_white(pixels: np.ndarray, over: np.ndarray) -> np.ndarray:
    """H W C laid on white by its opacity, H W 1 of the file's numbers."""
    opacity = over.astype(np.float32) / (np.iinfo(over.dtype).max if over.dtype.kind in "iu" else 1)
    white = 255 if pixels.dtype == np.uint8 else 1
    return _as(pixels.dtype.type, np.clip(pixels * opacity + white * (1 - opacity), 0, white))


def _lightness(pixels: np.ndarray) -> np.ndarray:
    return _as(pixels.dtype.type, (pixels @ LUMA)[..., None])  # H W 1


def _as(kind: type[np.generic], values: np.ndarray) -> np.ndarray:
    return np.rint(values).astype(kind) if kind is np.uint8 else values.astype(kind)


def _by_rows(change: Callable[..., np.ndarray], *pictures: np.ndarray) -> np.ndarray:
    """``change(*pictures)``, a few rows at a time: what it holds meanwhile does not grow with the picture."""
    with np.errstate(all="ignore"):  # damaged floats: what is no finite number is dealt with
        return _rows_of(change, *pictures)


def _rows_of(change: Callable[..., np.ndarray], *pictures: np.ndarray) -> np.ndarray:
    height, rows = len(pictures[0]), max(AT_ONCE // max(math.prod(pictures[0].shape[1:]), 1), 1)
    first = change(*(picture[:rows] for picture in pictures))
    result = np.empty((height, *first.shape[1:]), first.dtype)
    result[:rows] = first
    for start in range(rows, height, rows):
        result[start : start + rows] = change(*(picture[start : start + rows] for picture in pictures))
    return result
