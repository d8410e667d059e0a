"""``predict``: classifies images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headway.api.result import Result
from headway.utils.notes import note_skipped
from headway.utils.progress import ProgressCallback, stage_progress

if TYPE_CHECKING:
    from headway.data.sources.base import DataLike


@dataclass(frozen=True, repr=False)
class PredictResult(Result):
    """What was predicted."""

    out: str
    """The table."""
    images: int
    """Images that were classified."""
    skipped: int
    """Images that could not be read."""
    labels: dict[str, int]
    """Images of each label."""
    unsure: int
    """Images labeled "don't know"."""


def predict(
    model: str,
    *,
    data: DataLike,
    out: str | Path,
    min_confidence: float = 0.0,
    target: str = "",
    resume: bool = False,
    progress: ProgressCallback | None = None,
) -> PredictResult:
    """Classify images with a classifier that ``headway transfer`` made, in order, in constant memory.

    Until the table is complete, OUT.partial holds the results so far.

    Example: headway predict models/photos --data new-photos --out labels.csv

    Args:
        model: The classifier's folder.
        data: Images: a folder, tars, or a CSV with a column "file".
        out: The table to write (columns file, label, confidence, then one per class); it must not exist.
        min_confidence: Where the confidence is below this probability, the label is "don't know".
        target: Of a classifier with a target of your own: my_package.my_file:TARGET.
        resume: Continue an interrupted command.
        progress: Called with the progress of each stage; none: silent.
    """
    from headway.data.open import open_source
    from headway.downstream.classifier import load_classifier
    from headway.downstream.prediction_table import write_predictions
    from headway.errors import HeadwayError
    from headway.utils.files import refuse_existing

    table = refuse_existing(Path(out))
    if not 0 <= min_confidence <= 1:
        raise HeadwayError("value-out-of-range", f"--min-confidence is a probability in [0, 1], got {min_confidence}")
    classifier = load_classifier(model, target)
    source = open_source(data, backbone=classifier.backbone)
    written = write_predictions(
        classifier, Path(model), source, table, min_confidence, resume, stage_progress(progress, "predicting")
    )
    note_skipped(written.skipped_examples, total=written.num_skipped)
    return PredictResult(str(table), written.num_written, written.num_skipped, **written.user_state)
