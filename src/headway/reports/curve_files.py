"""A curve of accuracy against labels as plain data, a table, and a chart."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headway.evaluation.curve import CurvePoint
from headway.evaluation.methods import PRETRAINED, SCRATCH, UNTRAINED
from headway.reports.line_chart import ChartText, Line, draw_chart
from headway.utils.files import write_json, write_text

METHODS = (PRETRAINED, SCRATCH, UNTRAINED)
INTERVAL_NOTE = "95 % intervals over draws of labels and {:,} test images, for this one pretraining."


def curve_to_dict(points: Sequence[CurvePoint]) -> dict[str, Any]:
    """The ``rows`` and ``gains`` of ``CurveResult``."""
    rows = [
        {"labels_per_class": point.labels_per_class or "all", "labels": point.num_labels, "draws": point.num_draws,
         "name": name, "accuracy": point.accuracy[name].mean, "low": point.accuracy[name].low,
         "high": point.accuracy[name].high}
        for point in points for name in METHODS
    ]  # fmt: skip
    gains = [
        {"labels_per_class": point.labels_per_class or "all", "points": point.gain.mean, "low": point.gain.low,
         "high": point.gain.high}
        for point in points
    ]  # fmt: skip
    return {"rows": rows, "gains": gains}


def write_curve_files(folder: Path, points: Sequence[CurvePoint], result: dict[str, Any], num_classes: int) -> None:
    """Write the table as CSV, the chart as SVG and the result as JSON."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(result["rows"][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(result["rows"])
    write_text(folder / "curve.csv", text.getvalue())
    xs = [point.num_labels / num_classes for point in points]
    lines = [Line(name, xs, *zip(*(point.accuracy[name] for point in points), strict=True)) for name in METHODS]
    ticks = [(x, str(point.labels_per_class or f"all ({x:.0f})")) for x, point in zip(xs, points, strict=True)]
    chart_text = ChartText(
        "Accuracy against labels", "labels per class", "test accuracy, %", INTERVAL_NOTE.format(result["test_images"])
    )
    write_text(folder / "curve.svg", draw_chart(chart_text, lines, ticks))
    write_json(folder / "report.json", result)
