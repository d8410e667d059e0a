"""PNG of 16 bits and several channels, which Pillow would cut to 8; and the sizes that PNG and WebP say they have."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from headway.data.form import Raw
from headway.data.jpeg import find_operator
from headway.data.source import Unreadable

_UNCHANGED = 0
"""torchvision's ImageReadMode.UNCHANGED."""
_decoder: Callable[..., Any] | None = find_operator("decode_png")


_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""By colour type, how many bits a channel may have."""


class PngFacts(NamedTuple):
    """What the header of a PNG says; channels without opacity."""

    height: int
    width: int
    channels: int
    bits: int
    opacity: bool


def png_facts(data: bytes) -> PngFacts | None:
    """The header of a PNG; None for anything else (https://www.w3.org/TR/png-3/#11IHDR)."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 26:
        return None
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    kind = data[25]
    return PngFacts(height, width, 3 if kind & 2 else 1, data[24], bool(kind & 4))


def png_fault(data: bytes) -> str | None:
    """What is wrong with the header of a PNG; None where nothing is, or where it is none."""
    facts = png_facts(data)
    if facts is None:
        return "truncated: a PNG without its header" if data[:8] == b"\x89PNG\r\n\x1a\n" else None
    if not (facts.height and facts.width):
        return f"damaged: a PNG of {facts.width} x {facts.height} pixels"
    kind = data[25]
    if kind not in _BITS or facts.bits not in _BITS[kind]:
        return f"damaged: a PNG of {facts.bits} bits and colour type {kind}, which there is not"
    start = data.find(b"IDAT")
    if start < 0:
        return "truncated: a PNG without pixels"
    return "damaged: a PNG without its palette" if kind == 3 and b"PLTE" not in data[:start] else None


def deep_png(data: bytes, opacity: bool) -> Raw | None:
    """H W C of uint16, upright; None where this decoder is not there. Raises Unreadable for a damaged file."""
    if _decoder is None:
        return None
    try:
        picture = _decoder(torch.frombuffer(bytearray(data), dtype=torch.uint8), _UNCHANGED, True)  # C H W
    except RuntimeError as error:
        raise Unreadable("truncated or damaged") from error
    values = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())  # H W C
    key = clear_colour(data)
    if key is not None and len(key) == values.shape[2]:
        seen = (values != np.array(key, values.dtype)).any(2, keepdims=True)  # H W 1
        return Raw(np.concatenate([values, seen * values.dtype.type(65535)], 2), True)
    return Raw(values, opacity)


def clear_colour(data: bytes) -> tuple[int, ...] | None:
    """The one colour, or shade of grey, that a PNG of 16 bits calls transparent; None where it calls none."""
    place = data.find(b"tRNS", 33, data.find(b"IDAT"))
    length = int.from_bytes(data[place - 4 : place]) if place > 0 else 0
    numbers = data[place + 4 : place + 4 + length]
    return tuple(int.from_bytes(numbers[i : i + 2]) for i in range(0, length, 2)) if length in (2, 6) else None


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a WebP, for which Pillow would first make room for two frames; None for anything else.

    RFC 9649 (https://www.rfc-editor.org/rfc/rfc9649.html).
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[27:30], "little") + 1, int.from_bytes(data[24:27], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(data[28:30], "little") & 0x3FFF, int.from_bytes(data[26:28], "little") & 0x3FFF
    return None
