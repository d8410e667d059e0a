"""``headway predict``: classifies images."""

import csv
import io
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from headway.cli.console import print_line, print_skipped, progress_bar
from headway.data.open import open_source
from headway.data.sources.base import DataLike
from headway.downstream.classifier import BACKBONE_FILE, CLASSIFIER_FILE, HEAD_FILE, UNSURE, load_classifier
from headway.downstream.features.decode_stream import decode_chunks, source_fingerprint
from headway.downstream.features.resumable_writer import ResumableWriter
from headway.downstream.labeled_split import LABEL_SEPARATOR
from headway.errors import HeadwayError
from headway.utils.files import file_sha256, refuse_existing

TABLE_FILE = "labels.csv"


def predict(
    model: Positional[str],
    *,
    data: DataLike,
    out: str | Path,
    min_confidence: float = 0.0,
    resume: bool = False,
) -> dict[str, Any]:
    """Classify images with a classifier that ``headway transfer`` made, in order, in constant memory.

    Until the table is complete, OUT.partial holds the results so far.

    Example: headway predict models/photos --data new-photos --out labels.csv

    Args:
        model: The classifier's folder.
        data: Images: a folder, tars, or a CSV with a column "file".
        out: The table to write (columns file, label, confidence, then one per class); it must not exist.
        min_confidence: Where the confidence is below this probability, the label is "don't know".
        resume: Continue an interrupted command.

    Returns:
        out, images (predicted), skipped (unreadable), labels (images of each), unsure (images labeled "don't know").
    """
    table = refuse_existing(Path(out))
    if not 0 <= min_confidence <= 1:
        raise HeadwayError(f"--min-confidence is a probability in [0, 1], got {min_confidence}")
    classifier = load_classifier(Path(model))
    source = open_source(data, backbone=classifier.backbone)
    weights = [file_sha256(Path(model) / name) for name in (CLASSIFIER_FILE, HEAD_FILE, BACKBONE_FILE)]
    config = {"model": weights, "data": source_fingerprint(source), "min_confidence": min_confidence}
    writer = ResumableWriter(table, config, (TABLE_FILE,), resume=resume)
    if not writer.next_index:
        writer.user_state = {"labels": dict.fromkeys(classifier.classes, 0), "unsure": 0}
    with writer, progress_bar("predicting") as progress:
        for chunk in decode_chunks(source, classifier.size, progress, writer.next_index, writer.num_written):
            text = io.StringIO(newline="")
            rows = csv.writer(text)
            if not writer.next_index:
                rows.writerow(["file", "label", "confidence", *classifier.classes])
            probabilities = classifier.predict_proba(chunk.images).tolist() if chunk.names else []  # N K
            for name, row in zip(chunk.names, probabilities, strict=True):
                labels, confidence = classifier.labels_of(row, min_confidence)
                if confidence < min_confidence:
                    writer.user_state["unsure"] += 1
                else:
                    for label in labels:
                        writer.user_state["labels"][label] += 1
                rows.writerow([name, LABEL_SEPARATOR.join(labels), *(f"{p:.6f}" for p in (confidence, *row))])
            parts = {TABLE_FILE: text.getvalue().encode("utf-8", "surrogateescape")}
            writer.append(parts, chunk.next_index, len(chunk.names), chunk.skipped)
    writer.finish(lambda folder: folder / TABLE_FILE)
    print_skipped(writer.skipped_examples, total=writer.num_skipped)
    return {"out": str(table), "images": writer.num_written, "skipped": writer.num_skipped, **writer.user_state}


def print_result(result: dict[str, Any]) -> None:
    """Print the number of images of each label."""
    for label, count in sorted([*result["labels"].items(), (UNSURE, result["unsure"])], key=lambda item: -item[1]):
        if count:
            print_line(f"{count:>8,}  {label}")
    print_line(f"{result['images']:,} images classified, {result['skipped']:,} skipped; the table is {result['out']}")
