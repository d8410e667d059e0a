"""JPEG, the common case, by the fastest decoder at hand."""

import importlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

_RGB = 3
"""torchvision's ImageReadMode.RGB."""


def find_operator(name: str) -> Callable[..., Any] | None:
    """Find torchvision's decoder by its operator: the function around it warns since 0.29 that it will be taken out.

    The same libraries are in Pillow, which takes over where the operator is gone: slower, the same bits.
    """
    try:
        importlib.import_module("torchvision.io")
        operator: Callable[..., Any] = getattr(torch.ops.image, name).default
    except (ImportError, AttributeError, RuntimeError):
        return None
    return operator


_decoder = find_operator("decode_jpeg")


class JpegFacts(NamedTuple):
    """What the header of a JPEG says.

    Attributes:
        height: Before any turn.
        width: Likewise.
        components: 1 grey, 3 colours, 4 inks.
        scans: Passes over the pixels, at most; 1 unless it is progressive.
        orientation: By EXIF, 1 to 8.
    """

    height: int
    width: int
    components: int
    scans: int
    orientation: int


def is_jpeg(data: bytes) -> bool:
    """Whether the bytes begin as a JPEG does."""
    return data[:3] == b"\xff\xd8\xff"


def jpeg_facts(data: bytes) -> JpegFacts | None:
    """What the header says; None where no frame can be found.

    Segments are walked up to the frame header (ITU-T T.81, annex B, https://www.w3.org/Graphics/JPEG/itu-t81.pdf).
    """
    place, orientation = 2, 1
    while place + 10 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = int.from_bytes(data[place + 5 : place + 7]), int.from_bytes(data[place + 7 : place + 9])
            scans = data.count(b"\xff\xda") if marker & 3 == 2 else 1
            return JpegFacts(height, width, data[place + 9], scans, orientation) if height and width else None
        else:
            length = int.from_bytes(data[place + 2 : place + 4])
            if marker == 0xE1 and data[place + 4 : place + 10] == b"Exif\0\0":
                orientation = _orientation(data[place + 10 : place + 2 + length])
            place += 2 + length
    return None


def _orientation(exif: bytes) -> int:
    """The orientation in the first directory (EXIF 2.32, section 4.6), 1 where there is none that means anything."""
    order: Literal["little", "big"] = "little" if exif[:2] == b"II" else "big"
    start = int.from_bytes(exif[4:8], order)
    for place in range(start + 2, start + 2 + 12 * int.from_bytes(exif[start : start + 2], order), 12):
        if int.from_bytes(exif[place : place + 2], order) == 0x0112:
            found = int.from_bytes(exif[place + 8 : place + 10], order)
            return found if 1 <= found <= 8 else 1
        if place >= len(exif):
            break
    return 1


def decode_jpeg(data: bytes) -> Tensor | None:
    """3 H W, uint8, RGB, upright by EXIF; None where this decoder is not there or gives up (truncated, exotic)."""
    if _decoder is None:
        return None
    try:
        picture: Tensor = _decoder(torch.frombuffer(bytearray(data), dtype=torch.uint8), _RGB, True)  # 3 H W
    except RuntimeError:
        return None
    return picture
