"""The order of an epoch is a function: it shuffles any number of pictures and holds no list.

    place = epoch * count + x,   index = the first of p(x), p(p(x)), ... below count

p is a keyed bijection of 0..2^b - 1 with 2^b >= count: a Feistel network, whose rounds (l, r) -> (r, l xor f(r)) can be
undone whatever f is. Walking along p's cycle until it comes back below count keeps it a bijection there.

Luby and Rackoff, "How to construct pseudorandom permutations from pseudorandom functions", 1988
(https://doi.org/10.1137/0217022); Black and Rogaway, "Ciphers with arbitrary finite domains", 2002
(https://doi.org/10.1007/3-540-45760-7_9), for the walk.
"""

import torch
from torch import Tensor

from headway.draws import hashed

ROUNDS = 6
_SPREAD = -7046029254386353131  # 2^64 / golden ratio, as a signed number: steps that spread evenly


def place_to_index(places: Tensor, count: int, seed: int) -> Tensor:
    """Which picture comes at which place of the stream.

    Args:
        places: Any shape, int64, 0 or more: epoch x count + place in the epoch.
        count: Pictures in the data set, 1 up to 2^62.
        seed: Of the run. Every epoch of every seed has an order of its own.

    Returns:
        The same shape, int64 in 0..count-1; each of them once an epoch.

    Raises:
        ValueError: A count out of range, or a negative place.
    """
    if not 1 <= count <= 1 << 62:
        raise ValueError(f"count must be in 1..2^62, got {count}")
    if places.numel() and int(places.min()) < 0:
        raise ValueError(f"places must be 0 or more, got {int(places.min())}")
    epochs, index = (places // count).flatten(), (places % count).flatten()
    half = max((count - 1).bit_length() + 1, 4) // 2
    keys = [_scramble(epochs * _SPREAD + hashed("order", seed, number)) for number in range(ROUNDS)]
    walking = torch.arange(len(index), device=places.device)
    while len(walking):
        step = _permute(index[walking], half, [key[walking] for key in keys])
        index[walking] = step
        walking = walking[step >= count]
    return index.reshape(places.shape)


def _permute(x: Tensor, half: int, keys: list[Tensor]) -> Tensor:
    """One pass through the network: a bijection of 0..2^(2 half) - 1 for every key."""
    mask = (1 << half) - 1
    left, right = x >> half, x & mask
    for key in keys:
        left, right = right, left ^ (_scramble(right * _SPREAD + key) & mask)
    return left << half | right


def _scramble(z: Tensor) -> Tensor:
    """MurmurHash3's finaliser (Appleby 2011, https://github.com/aappleby/smhasher) on int64; shifts are logical."""
    z = (z ^ (z >> 33 & 0x7FFFFFFF)) * -49064778989728563
    z = (z ^ (z >> 33 & 0x7FFFFFFF)) * -4265267296055464877
    return z ^ (z >> 33 & 0x7FFFFFFF)
