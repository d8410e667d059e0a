"""Permutations that lie far apart, for jigsaw puzzles whose answers cannot be told from one or two tiles."""

from functools import cache
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from headway.errors import HeadwayError


@cache
def far_permutations(n: int, count: int) -> Tensor:
    """``count`` permutations of 0..n-1, chosen greedily: each next one is the farthest from those chosen.

    The Hamming distance counts the places where two permutations differ. The first is the identity; then comes the
    one whose distance to the nearest chosen one is largest, of these the one with the largest sum of distances, of
    these the first in lexicographic order. Nothing is drawn: the same numbers give the same set everywhere.

    Noroozi and Favaro 2016, algorithm 1 (https://arxiv.org/abs/1603.09246), who take the largest mean distance alone,
    which does not keep two of a set from being nearly equal.

    Args:
        n: Tiles, 2 to 9.
        count: K, 2 to n!.

    Returns:
        K n, int64. Shared between callers: do not write to it.

    Raises:
        HeadwayError: For a count that there isn't.
    """
    every = np.array(list(permutations(range(n))), dtype=np.uint8).T.copy()  # n n!: a row a place, quick to compare
    if not 2 <= count <= every.shape[1]:
        raise HeadwayError(f"jigsaw permutations must lie in 2..{every.shape[1]} for {n} tiles, got {count}")
    nearest, total = np.full(every.shape[1], n, dtype=np.int64), np.zeros(every.shape[1], dtype=np.int64)  # n! each
    chosen = [0]
    while len(chosen) < count:
        differing = sum((row != row[chosen[-1]]).astype(np.int64) for row in every)  # n!
        np.minimum(nearest, differing, out=nearest)
        total += differing
        chosen.append(int((nearest * (n * count) + total).argmax()))  # nearest first, since total < n * count
    return torch.from_numpy(every[:, chosen].T.astype(np.int64))  # K n
