"""``headway predict``: name what is in pictures."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from tyro.conf import Positional

from headway.cli.screen import counting, name_skipped
from headway.data.open import open_source
from headway.data.source import Source
from headway.downstream.classifier import BACKBONE, HEAD, RECORD, load_classifier, refuse_existing
from headway.downstream.growing import Growing
from headway.downstream.labelled import BETWEEN
from headway.downstream.stream import identity, stream
from headway.errors import HeadwayError
from headway.files import digest

UNSURE = "don't know"
TABLE = "labels.csv"


def predict(
    model: Positional[str],
    *,
    data: str | Path | Source,
    out: str | Path,
    below: float = 0.0,
    resume: bool = False,
) -> dict[str, Any]:
    """Name what is in pictures, with a classifier that ``headway transfer`` made, in order, in constant memory.

    Until the table is whole, OUT.partial holds what there is.

    Example: headway predict models/photos --data new-photos --out labels.csv

    Args:
        model: The classifier's folder.
        data: Pictures: a folder, tars, or a CSV with a column "file".
        out: The table to write (columns file, label, confidence, then one a class); it must not exist.
        below: Where the confidence is below this probability, the label is "don't know".
        resume: Go on where a command that was killed had come to.

    Returns:
        out, pictures (predicted), skipped (could not be read), labels (how many of each), unsure (how many "don't
        know").
    """
    table = refuse_existing(Path(out))
    if not 0 <= below <= 1:
        raise HeadwayError(f"--below is a probability in [0, 1], got {below}")
    classifier = load_classifier(Path(model))
    source = open_source(data, like=classifier.backbone)
    weights = [digest(Path(model) / name) for name in (RECORD, HEAD, BACKBONE)]
    job = {"model": weights, "data": identity(source), "below": below}
    growing = Growing(table, job, (TABLE,), resume=resume)
    if not growing.next:
        growing.notes = {"labels": dict.fromkeys(classifier.classes, 0), "unsure": 0}
    with growing, counting("predicting") as progress:
        for some in stream(source, classifier.size, progress, growing.next, growing.count):
            text = io.StringIO(newline="")
            rows = csv.writer(text)
            if not growing.next:
                rows.writerow(["file", "label", "confidence", *classifier.classes])
            said = classifier.probabilities(some.images).tolist() if some.names else []  # N K
            for name, row in zip(some.names, said, strict=True):
                labels, confidence = named(row, classifier.classes, classifier.several)
                if confidence < below:
                    labels, growing.notes["unsure"] = [UNSURE], growing.notes["unsure"] + 1
                else:
                    for label in labels:
                        growing.notes["labels"][label] += 1
                rows.writerow([name, BETWEEN.join(labels), *(f"{p:.6f}" for p in (confidence, *row))])
            parts = {TABLE: text.getvalue().encode("utf-8", "surrogateescape")}
            growing.add(parts, some.upto, len(some.names), some.skipped)
    growing.finish(lambda folder: folder / TABLE)
    name_skipped(growing.named, total=growing.skipped)
    return {"out": str(table), "pictures": growing.count, "skipped": growing.skipped, **growing.notes}


def named(row: Sequence[float], classes: Sequence[str], several: bool) -> tuple[list[str], float]:
    """The labels of one picture and how sure they are.

    Args:
        row: K probabilities.
        classes: K names.
        several: Each class is decided by itself, at 1/2; the confidence is that of the least sure decision.
    """
    if several:
        return [name for name, p in zip(classes, row, strict=True) if p >= 0.5], min(max(p, 1 - p) for p in row)
    best = max(range(len(row)), key=row.__getitem__)
    return [classes[best]], row[best]


def show(answer: dict[str, Any]) -> None:
    """Print the answer as a few lines."""
    print = Console(soft_wrap=True, highlight=False, markup=False).print
    for label, count in sorted([*answer["labels"].items(), (UNSURE, answer["unsure"])], key=lambda item: -item[1]):
        if count:
            print(f"{count:>8,}  {label}")
    print(f"{answer['pictures']:,} pictures named, {answer['skipped']:,} skipped; the table is {answer['out']}")
