"""Random numbers per image: every number is a hash of (seed, position in the sample stream, name of the draw, element).

Unlike a generator, a hash has no state. So N processes draw the numbers that one process would draw, a resumed run
continues exactly, and the position in the data is one integer. The mixing function is the finalizer of SplitMix64
(Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014,
https://doi.org/10.1145/2714064.2660195).
"""

import math
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from headway.utils.hashing import stable_hash

_dropout_rng: ContextVar["SampleRNG | None"] = ContextVar("dropout rng", default=None)
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: its multiples are spread evenly


def _to_int64(number: int) -> int:
    """The 64-bit pattern of ``number`` as torch's signed integer."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number


def splitmix64(z: Tensor) -> Tensor:
    """SplitMix64's finalizer on int64. Products wrap as unsigned ones do; masks make the right shifts logical."""
    z = (z ^ ((z >> 30) & ((1 << 34) - 1))) * _to_int64(0xBF58476D1CE4E5B9)
    z = (z ^ ((z >> 27) & ((1 << 37) - 1))) * _to_int64(0x94D049BB133111EB)
    return z ^ ((z >> 31) & ((1 << 33) - 1))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators (which initialize weights) within the block, and restore their states after it."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


class SampleRNG:
    """Random numbers for the B images of one (micro-)batch.

    Every draw has a name. The same name at the same stream positions gives the same numbers, whatever else is drawn
    and however the batch is split over processes and micro-batches. Draws of different names are independent. No name
    may be drawn twice from one object, since both draws would be equal.

    Args:
        seed: The run's seed.
        stream_position: B, int64: each image's position in the sample stream, epoch x num_images + position in the
            epoch.
        step: The optimizer step, the same on every process.

    Raises:
        RuntimeError: By every draw whose name was drawn before.
    """

    def __init__(self, seed: int, stream_position: Tensor, step: int = 0):
        self.seed, self.stream_position, self._step = seed, stream_position, step
        self._drawn: set[str] = set()
        self._dropout_masks = Counter[str]()

    def __len__(self) -> int:
        return len(self.stream_position)

    def _register(self, name: str) -> None:
        if name in self._drawn:
            raise RuntimeError(f"'{name}' was drawn before: name every draw differently, or fold_in a name first")
        self._drawn.add(name)

    def _bits(self, name: str, shape: tuple[int, ...]) -> Tensor:
        self._register(name)
        key = _to_int64(stable_hash("draw", self.seed, name))
        rows = splitmix64(self.stream_position * _to_int64(_GOLDEN_GAMMA) + key)  # B
        count = math.prod(shape)
        columns = torch.arange(1, count + 1, device=self.stream_position.device) * _to_int64(_GOLDEN_GAMMA)  # count
        return splitmix64(rows[:, None] + columns).reshape(len(self), *shape)  # B *shape

    def uniform(self, name: str, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform numbers: B *shape, float32 in [low, high). Ranges other than [0, 1) may round up to ``high``."""
        unit = ((self._bits(name, shape) >> 40) & ((1 << 24) - 1)).float() * 2.0**-24  # the 24 bits that float32 holds
        return unit if (low, high) == (0.0, 1.0) else low + (high - low) * unit

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal numbers: B *shape, float32 (Box and Muller 1958, https://doi.org/10.1214/aoms/1177706645)."""
        pairs = self.uniform(name, *shape, 2)  # B *shape 2
        radius = torch.sqrt(-2.0 * torch.log1p(-pairs[..., 0]))  # log(1 - u) with u < 1 is finite
        return radius * torch.cos(2 * math.pi * pairs[..., 1])

    def integers(self, name: str, high: int, *shape: int) -> Tensor:
        """Uniform integers in 0..high-1: B *shape, int64. Raises ValueError unless 1 <= high <= 2^24."""
        if not 1 <= high <= 1 << 24:
            raise ValueError(f"integers(high) needs 1 <= high <= 2^24, got {high}")
        return (self.uniform(name, *shape) * high).long().clamp_(max=high - 1)

    def bernoulli(self, name: str, probability: float, *shape: int) -> Tensor:
        """True with this probability: B *shape, bool."""
        return self.uniform(name, *shape) < probability

    def permutation(self, name: str, n: int) -> Tensor:
        """A permutation of 0..n-1 for each image: B n, int64."""
        return self._bits(name, (n,)).argsort(dim=1)

    def for_step(self, name: str) -> random.Random:
        """Random numbers that are the same on every process and in every micro-batch of the step."""
        self._register(name)
        return random.Random(stable_hash("step", self.seed, name, self._step))

    def dropout_uniform(self, name: str, *shape: int) -> Tensor:
        """Uniform numbers of the next dropout mask of this name: layers don't know how often others have drawn."""
        self._dropout_masks[name] += 1
        return self.uniform(f"dropout {name} {self._dropout_masks[name]}", *shape)

    def fold_in(self, name: str) -> "SampleRNG":
        """The independent random numbers of a part called ``name``; the same name gives the same numbers again."""
        return SampleRNG(stable_hash("fold_in", self.seed, name), self.stream_position, self._step)

    @contextmanager
    def use_for_dropout(self) -> Iterator[None]:
        """Within the block, all dropout and drop-path layers take their masks from this stream."""
        token = _dropout_rng.set(self)
        try:
            yield
        finally:
            _dropout_rng.reset(token)


def dropout_mask(name: str, num_rows: int, drop_prob: float, *shape: int, device: torch.device | str = "cpu") -> Tensor:
    """Mask of inverted dropout from the RNG in use: num_rows *shape, float32, 0 or 1 / (1 - drop_prob).

    Layers see V views of B images as V*B rows, view-major (``torch.cat`` of views). Row v*B + b belongs to image b. The
    k-th mask of a name within ``use_for_dropout()`` is a draw of its own, so that masks of one kind of layer don't
    depend on layers of another kind.

    Raises:
        RuntimeError: Outside ``SampleRNG.use_for_dropout()``, since with torch's global generator N processes would not
            equal one; or if num_rows is no multiple of B.
    """
    rng = _dropout_rng.get()
    if rng is None:
        raise RuntimeError("dropout in training mode needs an RNG: call it within use_for_dropout() or use .eval()")
    views, rest = divmod(num_rows, len(rng))
    if rest:
        raise RuntimeError(f"{num_rows} rows are no multiple of the {len(rng)} images of the RNG")
    unit = rng.dropout_uniform(name, views, *shape)  # B V *shape
    keep = unit.transpose(0, 1).reshape(num_rows, *shape) >= drop_prob  # V*B *shape
    return keep.float().div_(1.0 - drop_prob).to(device)
