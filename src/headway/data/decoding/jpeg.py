"""JPEG: the header, its errors, and torchvision's decoder, the fastest one available."""

import importlib
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

_RGB = 3
"""torchvision's ImageReadMode.RGB."""


def find_torchvision_operator(name: str) -> Callable[..., Any] | None:
    """Find a decoder of torchvision by its operator; None if there is none.

    The public function around the operator warns since 0.29 that it will be removed. Without the operator Pillow, which
    contains the same libraries, decodes more slowly to the same bits.
    """
    try:
        _load_torchvision_operators()
        operator: Callable[..., Any] = getattr(torch.ops.image, name).default
    except (ImportError, AttributeError, RuntimeError):
        return None
    return operator


def _load_torchvision_operators() -> None:
    """Load the library of the decoders alone: the package around it imports torch.compile, which takes seconds."""
    package = importlib.util.find_spec("torchvision")
    libraries = list(Path(package.origin).parent.glob("image*.so")) if package and package.origin else []
    try:
        (library,) = libraries
        torch.ops.load_library(library)
    except (ValueError, OSError):  # another layout of the package, or libraries that only the package finds
        importlib.import_module("torchvision.io")


_decoder = find_torchvision_operator("decode_jpeg")
_RESTART_MARKER = re.compile(rb"\xff[\xd0-\xd7]")


class JpegHeader(NamedTuple):
    """The content of a JPEG's header.

    Attributes:
        height: In pixels, before the EXIF orientation is applied.
        width: In pixels, likewise.
        components: 1 gray, 3 color, 4 CMYK.
        scans: Upper bound on the number of scans; 1 unless the JPEG is progressive.
        orientation: EXIF orientation, 1 to 8.
        has_multiple_frames: Whether the file contains several images (MPF, CIPA DC-007).
        scan_offset: Byte offset at which the scans begin.
        expected_restarts: Number of restart markers that must follow; 0: none, or unknown.
        frame_marker: Marker of the frame (SOF), the kind of JPEG.
        bit_depth: Bits per channel.
    """

    height: int
    width: int
    components: int
    scans: int
    orientation: int
    has_multiple_frames: bool = False
    scan_offset: int = 0
    expected_restarts: int = 0
    frame_marker: int = 0xC0
    bit_depth: int = 8


def is_jpeg(data: bytes) -> bool:
    """Whether the bytes start with the signature of JPEG."""
    return data[:3] == b"\xff\xd8\xff"


def read_jpeg_header(data: bytes) -> JpegHeader | None:
    """Read the header of a JPEG; None if it has no frame with a size.

    The segments before the first scan are parsed (ITU-T T.81, annex B, https://www.w3.org/Graphics/JPEG/itu-t81.pdf).
    """
    offset, orientation, has_multiple_frames, interval, frame = 2, 1, False, 0, b""
    while offset + 4 <= len(data) and data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker == 0xFF:  # padding
            offset += 1
            continue
        segment = data[offset + 2 : offset + 2 + int.from_bytes(data[offset + 2 : offset + 4])]
        if marker == 0xDA:
            break
        if _is_frame_marker(marker) and len(segment) >= 8:
            frame = bytes([marker]) + segment
        elif marker == 0xE1 and segment[2:8] == b"Exif\0\0":
            orientation = exif_orientation(segment[8:])
        elif marker == 0xE2 and segment[2:6] == b"MPF\0":
            has_multiple_frames = True
        elif marker == 0xDD:
            interval = int.from_bytes(segment[2:4])
        offset += 2 + max(len(segment), 2)
    height, width = int.from_bytes(frame[4:6]), int.from_bytes(frame[6:8])
    if not (height and width):
        return None
    scans = data.count(b"\xff\xda", offset) if frame[0] & 3 == 2 else 1
    restarts = _expected_restarts(frame, interval) if interval else 0
    return JpegHeader(
        height, width, frame[8], scans, orientation, has_multiple_frames, offset, restarts, frame[0], frame[3]
    )


def _is_frame_marker(marker: int) -> bool:
    return (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7


def _expected_restarts(frame: bytes, interval: int) -> int:
    """Number of restart markers in a scan of all components: one between groups of ``interval`` coding units (MCU)."""
    height, width, components = int.from_bytes(frame[4:6]), int.from_bytes(frame[6:8]), frame[8]
    if frame[0] & 3 == 2 or len(frame) < 9 + 3 * components:
        return 0
    factors = [(frame[10 + 3 * number] >> 4, frame[10 + 3 * number] & 15) for number in range(components)]
    across, down = ((max(sides) or 1) if components > 1 else 1 for sides in zip(*factors, strict=True))
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    return -(-units // interval) - 1


def jpeg_error(data: bytes, header: JpegHeader | None) -> str | None:
    """The reason why a JPEG is damaged or unsupported; None if it is neither, or if the file is not a JPEG.

    Args:
        data: The file's bytes.
        header: The output of ``read_jpeg_header``.
    """
    if not is_jpeg(data):
        return None
    if header is None:
        return "truncated: a JPEG without pixels, or damaged: a JPEG without a size"
    if header.frame_marker == 0xF7:
        return "JPEG-LS is not read; convert it to PNG"
    if header.frame_marker & 3 == 3:
        return "lossless JPEG is not read; convert it to PNG"
    if header.bit_depth != 8:
        return f"a JPEG of {header.bit_depth} bits is not read; convert it to PNG or TIFF of 16 bits"
    if header.components not in (1, 3, 4):
        return f"a JPEG of {header.components} channels is not read"
    expected = header.expected_restarts
    if expected and data.count(b"\xff\xda", header.scan_offset) == 1:
        found = len(_RESTART_MARKER.findall(data, header.scan_offset))
        if found < expected:  # decoders would decode the remaining data without an error
            return f"damaged: {expected - found} of {expected} restart markers are missing"
    return None


def exif_orientation(exif: bytes) -> int:
    """The orientation in the first IFD (EXIF 2.32, section 4.6); 1 if it is missing or invalid."""
    order: Literal["little", "big"] = "little" if exif[:2] == b"II" else "big"
    start = int.from_bytes(exif[4:8], order)
    for offset in range(start + 2, start + 2 + 12 * int.from_bytes(exif[start : start + 2], order), 12):
        if int.from_bytes(exif[offset : offset + 2], order) == 0x0112:
            found = int.from_bytes(exif[offset + 8 : offset + 10], order)
            return found if 1 <= found <= 8 else 1
        if offset >= len(exif):
            break
    return 1


def decode_jpeg(data: bytes) -> Tensor | None:
    """3 H W, uint8, RGB, upright by EXIF. None if the decoder is missing or fails (a truncated or unusual file)."""
    if _decoder is None:
        return None
    try:
        pixels: Tensor = _decoder(torch.frombuffer(bytearray(data), dtype=torch.uint8), _RGB, True)  # 3 H W
    except RuntimeError:
        return None
    return pixels
