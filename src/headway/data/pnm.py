"""The simplest files of more than 8 bits and three channels, which Pillow would cut to 8 or doesn't read: P6 and PF.

Netpbm: https://netpbm.sourceforge.net/doc/ppm.html. PFM: Debevec, https://www.pauldebevec.com/Research/HDR/PFM/.
"""

import re
from typing import NamedTuple

import numpy as np

from headway.data.form import Raw
from headway.data.source import Unreadable

_HEADER = re.compile(rb"(P6|PF)((?:\s+|#[^\n]*\n)+)(\d+)((?:\s+|#[^\n]*\n)+)(\d+)((?:\s+|#[^\n]*\n)+)(-?[\d.]+)\s")


class PnmFacts(NamedTuple):
    """What the header says: side lengths, how numbers lie, which of them is white (0: none is), where they begin."""

    height: int
    width: int
    kind: np.dtype
    white: int
    start: int


def pnm_facts(data: bytes) -> PnmFacts | None:
    """The header of a deep colour picture; None for anything else, which Pillow reads."""
    found = _HEADER.match(data[:1000]) if data[:2] in (b"P6", b"PF") else None
    if found is None:
        return None
    width, height, last = int(found[3]), int(found[5]), float(found[7])
    if found[1] == b"PF":
        return PnmFacts(height, width, np.dtype("<f4" if last < 0 else ">f4"), 0, found.end())
    return PnmFacts(height, width, np.dtype(">u2"), int(last), found.end()) if 255 < last < 65536 else None


def read_pnm(data: bytes, facts: PnmFacts) -> Raw:
    """H W 3, of uint16 (white is 65535) or float32. Raises Unreadable for a truncated one, or one of no size."""
    count = facts.height * facts.width * 3
    if not count:
        raise Unreadable(f"damaged: a picture of {facts.width} x {facts.height} pixels")
    if len(data) - facts.start < count * facts.kind.itemsize:
        raise Unreadable("truncated")
    values = np.frombuffer(data, facts.kind, count, facts.start).reshape(facts.height, facts.width, 3)  # H W 3
    if not facts.white:
        return Raw(values[::-1].astype(np.float32), False)  # PFM begins at the bottom
    scaled = values.astype(np.uint32) * 65535 // facts.white if facts.white < 65535 else values
    return Raw(scaled.astype(np.uint16), False)
