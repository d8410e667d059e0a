"""Keep the best weights by a probe, for runs whose initial weights were already good."""

from pathlib import Path
from typing import Any

from headway.backbones.weights import save_backbone
from headway.errors import HeadwayError
from headway.protocol import Backbone
from headway.utils.files import read_json, write_json
from headway.utils.serialize import type_mismatch


class BestWeights:
    """A probe that saves the backbone of its highest result in ``RUN/best.safetensors``; only rank 0 calls it.

    Args:
        probe: From a backbone to percent.
        run: The run folder.

    Raises:
        HeadwayError: The scores from before a resume are damaged.
    """

    def __init__(self, probe: Any, run: Path):
        self.probe, self.weights_file, self.scores_file = probe, run / "best.safetensors", run / "best.json"
        schema = dict.fromkeys(("start", "best", "last"), float | None)
        scores = read_json(self.scores_file) if self.scores_file.is_file() else dict.fromkeys(schema)
        if reason := type_mismatch(scores, schema):
            raise HeadwayError(
                "run-damaged", f"{self.scores_file} is damaged: {reason}; remove it, and the scores begin again"
            )
        self.start, self.best, self.last = (scores[name] for name in schema)

    def __call__(self, backbone: Backbone) -> float:
        """Measure a backbone, and keep it where it is the best so far."""
        value = float(self.probe(backbone))
        if self.start is None:
            self.start = value
        if self.best is None or value > self.best:
            self.best = value
            save_backbone(backbone, self.weights_file)
        self.last = value
        write_json(self.scores_file, self.scores())
        return value

    def scores(self) -> dict[str, float | None]:
        """The first, the highest and the last result in percent."""
        return {"start": self.start, "best": self.best, "last": self.last}

    def decline_message(self) -> str | None:
        """The note for a run that ends below its start; None where it does not."""
        if self.start is None or self.last is None or self.last >= self.start:
            return None
        return (
            f"the run ends below its start: 20-NN {self.last:.1f} % after {self.start:.1f} %; "
            f"model.safetensors holds the best that was probed ({self.best:.1f} %)"
        )
