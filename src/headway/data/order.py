"""The order of an epoch is a function, not a list.

A Feistel network (Luby and Rackoff 1988, https://doi.org/10.1137/0217022) is a bijection of 2k-bit numbers whatever its
round function; numbers that fall outside of 0..count-1 are sent round again until they fall inside ("cycle walking", Black
and Rogaway 2002, https://doi.org/10.1007/3-540-45760-7_9), which keeps it a bijection of 0..count-1.
"""

import torch
from torch import Tensor

from headway.draws import hashed, mix

ROUNDS = 6


def place_to_index(places: Tensor, count: int, seed: int) -> Tensor:
    """Which picture stands at each place of the sample stream.

    Args:
        places: Any shape, int64, 0 or more: epoch x count + place in the epoch.
        count: Pictures in the data set.
        seed: Of the run.

    Returns:
        int64 in 0..count-1, of the shape of ``places``; every epoch holds every picture once, in an order of its own.
    """
    epoch, index = places // count, places % count
    half = max((count - 1).bit_length() + 1, 2) // 2
    keys = [mix(epoch + hashed("order", seed, round_)) for round_ in range(ROUNDS)]
    index = _feistel(index, keys, half)
    while (outside := index >= count).any():
        index = torch.where(outside, _feistel(index, keys, half), index)
    return index


def _feistel(x: Tensor, keys: list[Tensor], half: int) -> Tensor:
    low = (1 << half) - 1
    left, right = x >> half, x & low
    for key in keys:
        left, right = right, left ^ (mix(right ^ key) & low)
    return left << half | right
