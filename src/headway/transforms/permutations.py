"""Permutations with large Hamming distances, so that one or two tiles of a jigsaw puzzle do not reveal the answer."""

from functools import cache
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from headway.errors import HeadwayError


@cache
def max_hamming_permutations(num_tiles: int, count: int) -> Tensor:
    """Select ``count`` permutations of 0..n-1 greedily: each further one is the farthest from those selected.

    The Hamming distance counts the positions in which two permutations differ. The first permutation is the identity.
    The next one has the largest distance to its nearest selected one; ties are broken by the largest sum of distances,
    then by lexicographic order. Nothing is random: the same arguments give the same set everywhere.

    After Noroozi and Favaro 2016, algorithm 1 (https://arxiv.org/abs/1603.09246), who maximize the mean distance alone,
    so that two permutations of a set can be nearly equal.

    Args:
        num_tiles: n, 2 to 9.
        count: K, 2 to n!.

    Returns:
        K n, int64. Callers share this tensor and must not write to it.

    Raises:
        HeadwayError: ``count`` is not in 2..n!.
    """
    every = np.array(list(permutations(range(num_tiles))), dtype=np.uint8).T.copy()  # n n!: fast to compare by rows
    total = every.shape[1]  # n!
    if not 2 <= count <= total:
        raise HeadwayError(
            "value-out-of-range", f"jigsaw permutations must lie in 2..{total} for {num_tiles} tiles, got {count}"
        )
    min_distance, sum_of_distances = np.full(total, num_tiles, dtype=np.int64), np.zeros(total, dtype=np.int64)  # n!
    selected = [0]
    while len(selected) < count:
        distance = sum((row != row[selected[-1]]).astype(np.int64) for row in every)  # n!
        np.minimum(min_distance, distance, out=min_distance)
        sum_of_distances += distance
        score = min_distance * (num_tiles * count) + sum_of_distances  # the sum breaks ties, being below n * count
        selected.append(int(score.argmax()))
    return torch.from_numpy(every[:, selected].T.astype(np.int64))  # K n
