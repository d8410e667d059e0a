"""Pictures that look the same though their pixels differ: another size, compression or shade of the same photograph.

Each picture gets 64 bits by the DCT hash of Zauner, "Implementation and benchmarking of perceptual image hash
functions", 2010 (https://www.phash.org/docs/pubs/thesis_zauner.pdf):

    x    the picture's lightness on 32 x 32 pixels
    c    the 8 x 8 lowest frequencies of its cosine transform
    bit  c_uv > median(c)

Two pictures are near where at most ``RADIUS`` bits differ. Not every pair is compared: the bits are cut into RADIUS + 1
bands, and two hashes that differ in no more than RADIUS bits are equal in one band at least.
"""

import math
from itertools import pairwise

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

GRID, LOW = 32, 8
"""Pixels a side that the hash looks at, and frequencies that it keeps along each side."""
RADIUS = 4
"""Bits of 64 in which near pictures may differ."""
CROWD = 1000
"""Hashes with which each is compared, at most, in one band: those next to it in order, where thousands share a band."""
PLAIN = 3.0
"""Deviation (of 255) of the 32 x 32 pixels below which a picture shows too little to be compared."""


def _cosines() -> np.ndarray:
    """LOW GRID: the rows of the orthonormal DCT-II."""
    place, frequency = np.arange(GRID), np.arange(LOW)[:, None]
    rows = np.cos(math.pi * (2 * place + 1) * frequency / (2 * GRID)) * math.sqrt(2 / GRID)
    rows[0] /= math.sqrt(2)
    return rows.astype(np.float32)


_COSINES = _cosines()


def look_hash(lightness: np.ndarray) -> np.ndarray:
    """N 32 32 -> N, uint64; 0 for what is too plain to be compared."""
    low = _COSINES @ lightness.astype(np.float32) @ _COSINES.T  # N 8 8
    flat = low.reshape(-1, LOW * LOW)  # N 64
    bits = flat > np.median(flat, 1, keepdims=True)
    hashes = np.packbits(bits, axis=1).view(">u8").astype(np.uint64)[:, 0]  # N
    return np.where(lightness.std((1, 2)) < PLAIN, np.uint64(0), hashes)


def near_pairs(hashes: np.ndarray, radius: int = RADIUS) -> np.ndarray:
    """P 2: every pair of places i < j whose hashes differ in at most ``radius`` bits; zeros are compared with nothing.

    Equal hashes are chained, not paired: of n equal ones there are n - 1 pairs.
    """
    order = np.argsort(hashes, kind="stable")
    order = order[hashes[order] > 0]
    ranked = hashes[order]
    fresh = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1])) if len(ranked) else np.array([], int)
    found = [np.stack([order[:-1], order[1:]], 1)[ranked[1:] == ranked[:-1]]]  # equal ones, chained
    places, unique = order[fresh], ranked[fresh]
    edges = np.linspace(0, 64, radius + 2).astype(int)
    for low, high in pairwise(edges.tolist()):
        found.append(places[_within(unique, low, high, radius)])
    pairs = np.sort(np.concatenate(found), 1)
    return np.unique(pairs, axis=0)


def _within(hashes: np.ndarray, low: int, high: int, radius: int) -> np.ndarray:
    """P 2: pairs that are equal in bits low..high-1 and differ in few of all."""
    band = hashes >> np.uint64(low) & np.uint64((1 << (high - low)) - 1)
    order = np.lexsort((hashes, band))
    band, ranked = band[order], hashes[order]
    first, pairs = np.arange(len(order)), [np.empty((0, 2), int)]
    for step in range(1, min(len(order), CROWD + 1)):
        first = first[first + step < len(order)]
        first = first[band[first] == band[first + step]]  # a run of equal bands ends once and for all
        if not len(first):
            break
        near = first[np.bitwise_count(ranked[first] ^ ranked[first + step]) <= radius]
        pairs.append(np.stack([order[near], order[near + step]], 1))
    return np.concatenate(pairs)


def families(pairs: np.ndarray, count: int) -> list[list[int]]:
    """Which of ``count`` places pairs tie together: each family sorted; what stands alone is left out."""
    if not len(pairs):
        return []
    tied = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, family = connected_components(tied, directed=False)
    members = np.unique(pairs)
    groups: dict[int, list[int]] = {}
    for place in members.tolist():
        groups.setdefault(int(family[place]), []).append(place)
    return list(groups.values())
