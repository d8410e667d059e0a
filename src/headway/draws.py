"""Chance, per picture: every number is a hash of (seed, place in the sample stream, call, element).

A generator has a state; a hash has none. So N processes draw what one would, a resumed run goes on as if it had never
stopped, and the position in the data is one integer. The mixing function is the finaliser of SplitMix64 (Steele, Lea
and Flood, "Fast splittable pseudorandom number generators", 2014, https://doi.org/10.1145/2714064.2660195).
"""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from headway.hashing import hashed as hashed

_active: ContextVar["Draws | None"] = ContextVar("active draws", default=None)
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: steps that spread evenly


def _signed(number: int) -> int:
    """The 64-bit pattern of ``number`` as torch's signed integer."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number


def mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64, whose products wrap as unsigned ones do; the shifts are made logical."""
    z = (z ^ ((z >> 30) & ((1 << 34) - 1))) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ ((z >> 27) & ((1 << 37) - 1))) * _signed(0x94D049BB133111EB)
    return z ^ ((z >> 31) & ((1 << 33) - 1))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block torch's own generators, which initialise weights, start from ``seed``; then as before."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


class Draws:
    """Random numbers for the B pictures of one (micro-)batch.

    Each call gives fresh numbers; the same calls in the same order on the same places give the same numbers, however
    the batch is cut over processes and micro-batches.

    Args:
        seed: Of the run.
        places: B, int64: each picture's place in the sample stream (epoch x count + place in the epoch).
        step: The optimiser step, the same on every process.
    """

    def __init__(self, seed: int, places: Tensor, step: int = 0):
        self.seed, self.places, self._step, self._calls = seed, places, step, 0
        self.step = random.Random(hashed("step", seed, step))  # the same on every process and in every micro-batch

    def __len__(self) -> int:
        return len(self.places)

    def _bits(self, shape: tuple[int, ...]) -> Tensor:
        self._calls += 1
        key = _signed(hashed("call", self.seed, self._calls))
        rows = mix(self.places * _signed(_GOLDEN) + key)  # B
        count = math.prod(shape)
        columns = torch.arange(1, count + 1, device=self.places.device) * _signed(_GOLDEN)  # count
        return mix(rows[:, None] + columns).reshape(len(self), *shape)  # B *shape

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """B *shape, float32 in [low, high); a range other than [0, 1) may round up to ``high`` itself."""
        unit = ((self._bits(shape) >> 40) & ((1 << 24) - 1)).float() * 2.0**-24  # the 24 bits that float32 holds
        return unit if (low, high) == (0.0, 1.0) else low + (high - low) * unit

    def normal(self, *shape: int) -> Tensor:
        """B *shape, float32, standard normal (Box and Muller 1958, https://doi.org/10.1214/aoms/1177706645)."""
        pairs = self.uniform(*shape, 2)  # B *shape 2
        radius = torch.sqrt(-2.0 * torch.log1p(-pairs[..., 0]))  # log(1 - u) with u < 1 is finite
        return radius * torch.cos(2 * math.pi * pairs[..., 1])

    def integers(self, high: int, *shape: int) -> Tensor:
        """B *shape, int64 in 0..high-1. Raises ValueError unless 1 <= high <= 2^24."""
        if not 1 <= high <= 1 << 24:
            raise ValueError(f"integers(high) needs 1 <= high <= 2^24, got {high}")
        return (self.uniform(*shape) * high).long().clamp_(max=high - 1)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """B *shape, bool: True with this probability."""
        return self.uniform(*shape) < probability

    def permutation(self, n: int) -> Tensor:
        """B n, int64: a permutation of 0..n-1 for each picture."""
        return self._bits((n,)).argsort(dim=1)

    def fork(self, name: str) -> "Draws":
        """Draws of their own for a part called ``name``, whatever is drawn elsewhere meanwhile."""
        return Draws(hashed("fork", self.seed, name), self.places, self._step)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within the block, dropout and drop-path of every layer take their masks from here."""
        token = _active.set(self)
        try:
            yield
        finally:
            _active.reset(token)


def keep_mask(images: int, drop: float, *shape: int, device: torch.device | str = "cpu") -> Tensor:
    """Inverted-dropout mask from the draws in force: ``images`` x shape, 0 or 1 / (1 - drop), float32.

    Layers see V views of B pictures as V*B rows, view-major (``torch.cat`` of views); row v*B + b belongs to picture b.

    Raises:
        RuntimeError: Outside ``Draws.active()`` (torch's global generator would break "N processes equal one"), or
            where the rows are no multiple of B.
    """
    draws = _active.get()
    if draws is None:
        raise RuntimeError("dropout in training mode needs draws: call it within draws.active(), or use .eval()")
    views, rest = divmod(images, len(draws))
    if rest:
        raise RuntimeError(f"{images} rows are no multiple of the {len(draws)} pictures that the draws are for")
    keep = draws.uniform(views, *shape).transpose(0, 1).reshape(images, *shape) >= drop  # V*B *shape
    return keep.float().div_(1.0 - drop).to(device)
