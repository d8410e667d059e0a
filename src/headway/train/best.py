"""Weights that were good when a run began deserve a watch: the probe is kept, and the best that it saw."""

from pathlib import Path
from typing import Any

from torch import nn

from headway.backbones.weights import save_backbone
from headway.errors import HeadwayError
from headway.files import read_json, write_json
from headway.plain import misfit


class Best:
    """A probe that keeps the backbone of its best answer in ``RUN/best.safetensors``; the first process alone asks it.

    Args:
        probe: What to ask: a backbone -> per cent.
        run: The run folder.

    Raises:
        HeadwayError: What was kept before a resume is damaged.
    """

    def __init__(self, probe: Any, run: Path):
        self.probe, self.weights, self.notes = probe, run / "best.safetensors", run / "best.json"
        shape = dict.fromkeys(("start", "best", "last"), float | None)
        seen = read_json(self.notes) if self.notes.is_file() else dict.fromkeys(shape)  # from before a resume
        if fault := misfit(seen, shape):
            raise HeadwayError(f"{self.notes} is damaged: {fault}; remove it, and the best begins to be kept anew")
        self.start, self.best, self.last = (seen[name] for name in shape)

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
