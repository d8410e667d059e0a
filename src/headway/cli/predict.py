"""``headway predict``: name what is in pictures."""

import csv
from pathlib import Path
from typing import Any

from rich.console import Console
from tyro.conf import Positional

from headway.cli.screen import counting, name_skipped
from headway.data.open import open_source
from headway.data.source import Source
from headway.downstream.classifier import load_classifier, refuse_existing
from headway.downstream.stream import stream
from headway.files import write_whole


def predict(model: Positional[str], *, data: str | Path | Source, out: str | Path) -> dict[str, Any]:
    """Name what is in pictures, with a classifier that ``headway transfer`` made.

    Example: headway predict models/photos --data new-photos --out labels.csv

    Args:
        model: The classifier's folder.
        data: Pictures: a folder, tars, or a CSV with a column "file".
        out: The table to write (columns file, label, confidence, then one a class); it must not exist.

    Returns:
        out, pictures (predicted), skipped (could not be read), labels (how many of each).
    """
    table = refuse_existing(Path(out))
    classifier = load_classifier(Path(model))
    source = open_source(data, like=classifier.backbone)
    skipped: list[tuple[str, str]] = []
    counts = dict.fromkeys(classifier.classes, 0)

    def write(temporary: Path) -> None:
        with (
            counting("predicting") as progress,
            temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            rows = csv.writer(file)
            rows.writerow(["file", "label", "confidence", *classifier.classes])
            for some in stream(source, classifier.size, progress):
                skipped.extend(some.skipped)
                if some.names:
                    probabilities = classifier.probabilities(some.images)  # N K
                    for name, row in zip(some.names, probabilities.tolist(), strict=True):
                        best = max(range(len(row)), key=row.__getitem__)
                        counts[classifier.classes[best]] += 1
                        rows.writerow([name, classifier.classes[best], *(f"{p:.6f}" for p in (row[best], *row))])

    write_whole(table, write)
    name_skipped(skipped)
    return {"out": str(table), "pictures": sum(counts.values()), "skipped": len(skipped), "labels": counts}


def show(answer: dict[str, Any]) -> None:
    """Print the answer as a few lines."""
    print = Console(soft_wrap=True, highlight=False, markup=False).print
    for label, count in sorted(answer["labels"].items(), key=lambda item: -item[1]):
        if count:
            print(f"{count:>8,}  {label}")
    print(f"{answer['pictures']:,} pictures named, {answer['skipped']:,} skipped; the table is {answer['out']}")
