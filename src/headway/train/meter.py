"""Time and means while a run goes on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from headway.distributed import all_sum


class Stopwatch:
    """Seconds since it was made, pauses not counted."""

    def __init__(self) -> None:
        self.began = self.mark = time.perf_counter()

    def seconds(self) -> float:
        """So far."""
        return time.perf_counter() - self.began

    def lap(self, count: int) -> float:
        """How many a second, of ``count`` things done since the last lap."""
        now = time.perf_counter()
        self.mark, before = now, self.mark
        return count / max(now - before, 1e-9)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within the block time stands still."""
        pause = time.perf_counter()
        yield
        self.began += time.perf_counter() - pause
        self.mark += time.perf_counter() - pause


def widest(device: torch.device) -> torch.dtype:
    """The widest floating point that a device computes in; Apple's have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


class Meter:
    """Means of what steps report, read now and then: reading them every step would make a GPU wait."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        self.count = self.read = 0

    def add(self, numbers: dict[str, Tensor]) -> None:
        """Take what one step reports."""
        self.count += 1
        for name, value in numbers.items():
            self.totals[name] = self.totals[name] + value if name in self.totals else value

    def means(self) -> dict[str, float]:
        """Means over steps and processes since the last reading; empty where there was no step."""
        if not self.count:
            return {}
        values = list(self.totals.values())
        total = all_sum(torch.stack([value.to(widest(value.device)) for value in values])) / self.count
        named = dict(zip(self.totals, total.tolist(), strict=True))
        self.totals, self.read, self.count = {}, self.count, 0
        return named
