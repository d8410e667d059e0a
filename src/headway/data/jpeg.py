"""JPEG, the common case, by the fastest decoder at hand."""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_RGB = 3
"""torchvision's ImageReadMode.RGB."""


def _find_decoder() -> Callable[..., Any] | None:
    """Find torchvision's decoder by its operator: the function around it warns since 0.29 that it will be taken out.

    The same libjpeg-turbo is in Pillow, which takes over where the operator is gone: slower, the same bits.
    """
    try:
        importlib.import_module("torchvision.io")
        operator: Callable[..., Any] = torch.ops.image.decode_jpeg.default
    except (ImportError, AttributeError, RuntimeError):
        return None
    return operator


_decoder = _find_decoder()


def is_jpeg(data: bytes) -> bool:
    """Whether the bytes begin as a JPEG does."""
    return data[:3] == b"\xff\xd8\xff"


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width from the header, before any turn; None where they cannot be found.

    Segments are walked up to the frame header (ITU-T T.81, annex B, https://www.w3.org/Graphics/JPEG/itu-t81.pdf).
    """
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = int.from_bytes(data[place + 5 : place + 7]), int.from_bytes(data[place + 7 : place + 9])
            return (height, width) if height and width else None
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return None


def decode_jpeg(data: bytes) -> Tensor | None:
    """3 H W, uint8, RGB, upright by EXIF; None where this decoder is not there or gives up (truncated, exotic)."""
    if _decoder is None:
        return None
    try:
        picture: Tensor = _decoder(torch.frombuffer(bytearray(data), dtype=torch.uint8), _RGB, True)  # 3 H W
    except RuntimeError:
        return None
    return picture
