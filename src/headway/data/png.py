"""What the headers of PNG and WebP say, and what is wrong with them."""

from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
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
    if data[:8] != SIGNATURE or data[12:16] != b"IHDR" or len(data) < 26:
        return None
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    kind = data[25]
    return PngFacts(height, width, 3 if kind & 2 else 1, data[24], bool(kind & 4))


def png_fault(data: bytes) -> str | None:
    """What is wrong with the header of a PNG; None where nothing is, or where it is none."""
    facts = png_facts(data)
    if facts is None:
        return "truncated: a PNG without its header" if data[:8] == SIGNATURE else None
    if not (facts.height and facts.width):
        return f"damaged: a PNG of {facts.width} x {facts.height} pixels"
    kind = data[25]
    if kind not in _BITS or facts.bits not in _BITS[kind]:
        return f"damaged: a PNG of {facts.bits} bits and colour type {kind}, which there is not"
    start = data.find(b"IDAT")
    if start < 0:
        return "truncated: a PNG without pixels"
    return "damaged: a PNG without its palette" if kind == 3 and b"PLTE" not in data[:start] else None


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
