"""Stopwatch and running means of a run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from headway.distributed import all_sum


class Stopwatch:
    """Measures the seconds since its creation, without pauses."""

    def __init__(self) -> None:
        self.start_time = self.lap_start = time.perf_counter()

    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self.start_time

    def per_second(self, count: int) -> float:
        """Rate per second of ``count`` items that were processed since the last call."""
        now = time.perf_counter()
        self.lap_start, before = now, self.lap_start
        return count / max(now - before, 1e-9)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time within the block does not count."""
        pause = time.perf_counter()
        yield
        self.start_time += time.perf_counter() - pause
        self.lap_start += time.perf_counter() - pause


def widest_float(device: torch.device) -> torch.dtype:
    """The widest floating-point type of a device; Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


class AverageMeter:
    """Means of the metrics of several steps; reading them at every step would make a GPU wait."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        self.count = self.steps_read = 0

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Add the metrics of one step."""
        self.count += 1
        for name, value in metrics.items():
            self.totals[name] = self.totals[name] + value if name in self.totals else value

    def means(self) -> dict[str, float]:
        """Means over steps and processes since the last call; empty where there was no step."""
        if not self.count:
            return {}
        values = list(self.totals.values())
        total = all_sum(torch.stack([value.to(widest_float(value.device)) for value in values])) / self.count
        named = dict(zip(self.totals, total.tolist(), strict=True))
        self.totals, self.steps_read, self.count = {}, self.count, 0
        return named
