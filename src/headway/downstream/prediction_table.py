"""Classify any number of images into a table, in constant memory, resumable."""

import csv
import io
from pathlib import Path

from headway.data.dataset.decode_stream import decode_chunks, source_fingerprint
from headway.data.sources.base import Source
from headway.downstream.classifier import BACKBONE_FILE, CLASSIFIER_FILE, HEAD_FILE, Classifier
from headway.downstream.features.resumable_writer import ResumableWriter
from headway.utils.files import file_sha256
from headway.utils.progress import Progress

TABLE_FILE = "labels.csv"


def write_predictions(
    classifier: Classifier,
    folder: Path,
    source: Source,
    table: Path,
    min_confidence: float,
    resume: bool,
    progress: Progress,
) -> ResumableWriter:
    """Write a CSV with the columns file, label, confidence, and one per class.

    Args:
        classifier: The classifier.
        folder: Its folder, whose files identify it when the command is resumed.
        source: The images.
        table: The file to write. Until it is complete, TABLE.partial holds the results so far.
        min_confidence: Where the confidence is below this probability, the label is "don't know".
        resume: Whether to go on with TABLE.partial.
        progress: Called with the number of classified images and the number of all of them.

    Returns:
        The writer, which has counted; ``user_state`` has labels (images of each) and unsure (images labeled "don't
        know").
    """
    weights = [file_sha256(folder / name) for name in (CLASSIFIER_FILE, HEAD_FILE, BACKBONE_FILE)]
    config = {"model": weights, "data": source_fingerprint(source), "min_confidence": min_confidence}
    writer = ResumableWriter(table, config, (TABLE_FILE,), resume=resume)
    if not writer.next_index:
        writer.user_state = {"labels": dict.fromkeys(classifier.classes, 0), "unsure": 0}
    with writer:
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
                    counts = writer.user_state["labels"]
                    for label in labels:
                        counts[label] = counts.get(label, 0) + 1
                rows.writerow([name, classifier.target.write(labels), *(f"{p:.6f}" for p in (confidence, *row))])
            parts = {TABLE_FILE: text.getvalue().encode("utf-8", "surrogateescape")}
            writer.append(parts, chunk.next_index, len(chunk.names), chunk.skipped)
    writer.finish(lambda partial: partial / TABLE_FILE)
    return writer
