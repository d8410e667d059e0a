"""Near-duplicates: images of different pixels that look the same, such as resized or recompressed copies.

Each image gets 64 bits from the DCT hash (pHash) of Zauner, "Implementation and benchmarking of perceptual image hash
functions", 2010 (https://www.phash.org/docs/pubs/thesis_zauner.pdf):

    x    the image's luma on 32 x 32 pixels
    c    the 8 x 8 lowest frequencies of its discrete cosine transform
    bit  c_uv > median(c)

Two images are near-duplicates if at most r = MAX_HAMMING_DISTANCE bits differ. Not every pair is compared: the bits are
divided into r + 1 bands, and two hashes that differ in at most r bits are equal in at least one band.
"""

from itertools import pairwise

import numpy as np
from scipy.fft import dct
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_GRID, NUM_FREQUENCIES = 32, 8
"""Side in pixels of the image that is hashed, and number of frequencies that are kept along each side."""
MAX_HAMMING_DISTANCE = 4
"""Number of bits, of 64, in which near-duplicates may differ."""
MAX_COMPARISONS = 1000
"""A hash is compared with at most this many of a band, the next ones in sorted order, where thousands share a band."""
MIN_CONTRAST = 3.0
"""Images whose 32 x 32 pixels have a lower standard deviation (of 255) have too little contrast to be compared."""


_DCT = dct(np.eye(HASH_GRID), axis=0, norm="ortho")[:NUM_FREQUENCIES].astype(np.float32)
"""NUM_FREQUENCIES HASH_GRID: the first rows of the orthonormal DCT-II."""


def perceptual_hash(luma: np.ndarray) -> np.ndarray:
    """N 32 32 -> N, uint64; 0 for images of too little contrast."""
    frequencies = _DCT @ luma.astype(np.float32) @ _DCT.T  # N 8 8
    flat = frequencies.reshape(-1, NUM_FREQUENCIES * NUM_FREQUENCIES)  # N 64
    bits = flat > np.median(flat, 1, keepdims=True)
    hashes = np.packbits(bits, axis=1).view(">u8").astype(np.uint64)[:, 0]  # N
    return np.where(luma.std((1, 2)) < MIN_CONTRAST, np.uint64(0), hashes)


def near_duplicate_pairs(hashes: np.ndarray, max_distance: int = MAX_HAMMING_DISTANCE) -> np.ndarray:
    """P 2: all pairs of indices i < j whose hashes differ in at most ``max_distance`` bits. Zero hashes are left out.

    Equal hashes form a chain: n equal ones give n - 1 pairs.
    """
    order = np.argsort(hashes, kind="stable")
    order = order[hashes[order] > 0]
    sorted_hashes = hashes[order]
    repeated = sorted_hashes[1:] == sorted_hashes[:-1]
    first_of_equal = np.flatnonzero(np.append(True, ~repeated)) if len(order) else np.array([], int)
    found = [np.stack([order[:-1], order[1:]], 1)[repeated]]  # the chains of equal hashes
    indices, unique = order[first_of_equal], sorted_hashes[first_of_equal]
    edges = np.linspace(0, 64, max_distance + 2).astype(int)
    for low, high in pairwise(edges.tolist()):
        found.append(indices[_pairs_in_band(unique, low, high, max_distance)])
    return np.unique(np.sort(np.concatenate(found), 1), axis=0)


def _pairs_in_band(hashes: np.ndarray, low: int, high: int, max_distance: int) -> np.ndarray:
    """P 2: pairs that are equal in the band of bits low..high-1 and differ in at most ``max_distance`` bits of 64."""
    band = hashes >> np.uint64(low) & np.uint64((1 << (high - low)) - 1)
    order = np.lexsort((hashes, band))
    band, sorted_hashes = band[order], hashes[order]
    first, pairs = np.arange(len(order)), [np.empty((0, 2), int)]
    for step in range(1, min(len(order), MAX_COMPARISONS + 1)):
        first = first[first + step < len(order)]
        first = first[band[first] == band[first + step]]  # bands are sorted, so a run that has ended does not continue
        if not len(first):
            break
        near = first[np.bitwise_count(sorted_hashes[first] ^ sorted_hashes[first + step]) <= max_distance]
        pairs.append(np.stack([order[near], order[near + step]], 1))
    return np.concatenate(pairs)


def duplicate_groups(pairs: np.ndarray, count: int) -> list[list[int]]:
    """Groups of the indices 0..count-1 that are connected by pairs, each sorted; single indices are left out."""
    if not len(pairs):
        return []
    graph = coo_array((np.ones(len(pairs), bool), tuple(pairs.T)), shape=(count, count))
    return equal_groups(connected_components(graph, directed=False)[1])


def equal_groups(keys: np.ndarray) -> list[list[int]]:
    """Indices of equal keys, one list per key that occurs more than once, ordered by first index."""
    order = np.argsort(keys, kind="stable")
    cuts = np.flatnonzero(np.diff(keys[order])) + 1
    return sorted(part.tolist() for part in np.split(order, cuts) if len(part) > 1)
