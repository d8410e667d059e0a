"""JPEG, the common case, by the fastest decoder at hand."""

import importlib
import re
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
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")


class JpegFacts(NamedTuple):
    """What the header of a JPEG says.

    Attributes:
        height: Before any turn.
        width: Likewise.
        components: 1 grey, 3 colours, 4 inks.
        scans: Passes over the pixels, at most; 1 unless it is progressive.
        orientation: By EXIF, 1 to 8.
        several: Whether it holds more pictures than one (Multi-Picture Format).
        start: Where its pixels begin.
        restarts: How many restart markers must follow there; 0 where none, or not known.
        marker: Of its frame: the kind of JPEG.
        bits: A channel.
    """

    height: int
    width: int
    components: int
    scans: int
    orientation: int
    several: bool = False
    start: int = 0
    restarts: int = 0
    marker: int = 0xC0
    bits: int = 8


def is_jpeg(data: bytes) -> bool:
    """Whether the bytes begin as a JPEG does."""
    return data[:3] == b"\xff\xd8\xff"


def jpeg_facts(data: bytes) -> JpegFacts | None:
    """What the header says; None where no frame of a size can be found.

    Segments are walked up to the pixels (ITU-T T.81, annex B, https://www.w3.org/Graphics/JPEG/itu-t81.pdf).
    """
    place, orientation, several, interval, frame = 2, 1, False, 0, b""
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        segment = data[place + 2 : place + 2 + int.from_bytes(data[place + 2 : place + 4])]
        if marker == 0xDA:
            break
        if _is_frame(marker) and len(segment) >= 8:
            frame = bytes([marker]) + segment
        elif marker == 0xE1 and segment[2:8] == b"Exif\0\0":
            orientation = exif_orientation(segment[8:])
        elif marker == 0xE2 and segment[2:6] == b"MPF\0":
            several = True
        elif marker == 0xDD:
            interval = int.from_bytes(segment[2:4])
        place += 2 + max(len(segment), 2)
    height, width = int.from_bytes(frame[4:6]), int.from_bytes(frame[6:8])
    if not (height and width):
        return None
    scans = data.count(b"\xff\xda", place) if frame[0] & 3 == 2 else 1
    restarts = _restarts(frame, interval) if interval else 0
    return JpegFacts(height, width, frame[8], scans, orientation, several, place, restarts, frame[0], frame[3])


def _is_frame(marker: int) -> bool:
    return (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7


def _restarts(frame: bytes, interval: int) -> int:
    """Restart markers of a scan that holds all components: one between any two groups of ``interval`` units."""
    height, width, components = int.from_bytes(frame[4:6]), int.from_bytes(frame[6:8]), frame[8]
    if frame[0] & 3 == 2 or len(frame) < 9 + 3 * components:
        return 0
    factors = [(frame[10 + 3 * number] >> 4, frame[10 + 3 * number] & 15) for number in range(components)]
    across, down = ((max(sides) or 1) if components > 1 else 1 for sides in zip(*factors, strict=True))
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    return -(-units // interval) - 1


def jpeg_fault(data: bytes, facts: JpegFacts | None) -> str | None:
    """Why a JPEG cannot be what it says, or is of a kind that is not read; None where neither is so, or it is none.

    Args:
        data: The file.
        facts: What ``jpeg_facts`` says of it.
    """
    if not is_jpeg(data):
        return None
    if facts is None:
        return "truncated: a JPEG without its picture, or damaged: one of no size"
    if facts.marker == 0xF7:
        return "JPEG-LS is not read; convert it to PNG"
    if facts.marker & 3 == 3:
        return "lossless JPEG is not read; convert it to PNG"
    if facts.bits != 8:
        return f"a JPEG of {facts.bits} bits is not read; convert it to PNG or TIFF of 16 bits"
    if facts.components not in (1, 3, 4):
        return f"a JPEG of {facts.components} channels is not read"
    if facts.restarts and data.count(b"\xff\xda", facts.start) == 1:  # decoders would go on with what is left
        found = len(_RESTART.findall(data, facts.start))
        if found < facts.restarts:
            return f"damaged: {facts.restarts - found} of {facts.restarts} restart markers are missing"
    return None


def exif_orientation(exif: bytes) -> int:
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
