"""Weights that were good when a run began deserve a watch: the probe is kept, and the best that it saw."""

from pathlib import Path
from typing import Any

from torch import nn

from headway.backbones.weights import save_backbone
from headway.files import read_json, write_json


class Best:
    """A probe that keeps the backbone of its best answer in ``RUN/best.safetensors``; the first process alone asks it.

    Args:
        probe: What to ask: a backbone -> per cent.
        run: The run folder.
    """

    def __init__(self, probe: Any, run: Path):
        self.probe, self.weights, self.notes = probe, run / "best.safetensors", run / "best.json"
        seen = read_json(self.notes) if self.notes.is_file() else {}  # of the part of the run before a resume
        self.start, self.best, self.last = (seen.get(name) for name in ("start", "best", "last"))

    def __call__(self, backbone: nn.Module) -> float:
        """Ask, and keep."""
        value = float(self.probe(backbone))
        if self.start is None:
            self.start = value
        if self.best is None or value > self.best:
            self.best = value
            save_backbone(backbone, self.weights)
        self.last = value
        write_json(self.notes, self.seen())
        return value

    def seen(self) -> dict[str, float | None]:
        """The answers at the start, at their best, and the last, in per cent."""
        return {"start": self.start, "best": self.best, "last": self.last}

    def verdict(self) -> str | None:
        """What to say where the run ends below its start; None where it doesn't."""
        if self.start is None or self.last is None or self.last >= self.start:
            return None
        return (
            f"the run ends below its start: 20-NN {self.last:.1f} % after {self.start:.1f} %; "
            f"model.safetensors holds the best that was probed ({self.best:.1f} %)"
        )
