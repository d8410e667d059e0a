"""Shuffle as a function: the order of an epoch is computed index by index, without a list in memory.

    position = epoch * count + x,   index = the first of p(x), p(p(x)), ... below count

p is a keyed bijection of 0..2^b - 1 with 2^b >= count: a Feistel network, whose rounds (l, r) -> (r, l xor f(r)) are
invertible for every f. Following p's cycle until it is below count makes a bijection of 0..count - 1 (cycle walking).

Luby and Rackoff, "How to construct pseudorandom permutations from pseudorandom functions", 1988
(https://doi.org/10.1137/0217022); Black and Rogaway, "Ciphers with arbitrary finite domains", 2002
(https://doi.org/10.1007/3-540-45760-7_9), for cycle walking.
"""

import torch
from torch import Tensor

from headway.utils.hashing import stable_hash

FEISTEL_ROUNDS = 6
_GOLDEN_RATIO_64 = -7046029254386353131  # 2^64 / golden ratio, as a signed number: its multiples are evenly distributed


def shuffled_index(stream_positions: Tensor, count: int, seed: int) -> Tensor:
    """The index of the image at each position of the shuffled stream.

    Args:
        stream_positions: Any shape, int64, 0 or more: epoch x count + position in the epoch.
        count: Number of images in the data set, 1 to 2^62.
        seed: Seed of the run. Every epoch of every seed has another order.

    Returns:
        The same shape, int64 in 0..count-1; every index occurs once per epoch.

    Raises:
        ValueError: ``count`` is out of range, or a position is negative.
    """
    if not 1 <= count <= 1 << 62:
        raise ValueError(f"count must be in 1..2^62, got {count}")
    if stream_positions.numel() and int(stream_positions.min()) < 0:
        raise ValueError(f"stream positions must be 0 or more, got {int(stream_positions.min())}")
    epochs, index = (stream_positions // count).flatten(), (stream_positions % count).flatten()
    half = max((count - 1).bit_length() + 1, 4) // 2
    hashes = [stable_hash("order", seed, number) for number in range(FEISTEL_ROUNDS)]
    keys = [_murmur_finalizer(epochs * _GOLDEN_RATIO_64 + value) for value in hashes]
    walking = torch.arange(len(index), device=stream_positions.device)
    while len(walking):
        step = _feistel(index[walking], half, [key[walking] for key in keys])
        index[walking] = step
        walking = walking[step >= count]
    return index.reshape(stream_positions.shape)


def _feistel(x: Tensor, half: int, keys: list[Tensor]) -> Tensor:
    """Apply the Feistel network once: a bijection of 0..2^(2 half) - 1 for every key."""
    mask = (1 << half) - 1
    left, right = x >> half, x & mask
    for key in keys:
        left, right = right, left ^ (_murmur_finalizer(right * _GOLDEN_RATIO_64 + key) & mask)
    return left << half | right


def _murmur_finalizer(z: Tensor) -> Tensor:
    """MurmurHash3's finalizer (Appleby 2011, https://github.com/aappleby/smhasher) on int64; shifts are logical."""
    z = (z ^ (z >> 33 & 0x7FFFFFFF)) * -49064778989728563
    z = (z ^ (z >> 33 & 0x7FFFFFFF)) * -4265267296055464877
    return z ^ (z >> 33 & 0x7FFFFFFF)
