"""Tables of the cells of ``leaderboard.py``, and the rank correlation of label-free metrics with the linear probe."""

from collections import defaultdict
from statistics import mean, stdev
from typing import Any

from rich.table import Table

from headway.evaluation.label_free import LabelFreeMetrics, rank_correlations

Rows = dict[str, list[dict[str, Any]]]
"""The cells of each row, one per seed, by the name of the row."""
FEW_LABELS = "linear_10_per_class"
MIN_RUNS = 8
"""Fewer runs show no order: among eight, chance alone exceeds a rank correlation of 0.74 once in twenty times."""


def group_rows(cells: list[dict[str, Any]]) -> dict[tuple[str, float], Rows]:
    """The rows of each data set and budget, followed by the baselines, which have no budget."""
    groups: dict[tuple[str, float], Rows] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        groups[cell["data"], cell["budget"]][f"{cell['task']} {cell['variant']}".strip()].append(cell)
    return {key: rows | groups.get((key[0], 0.0), {}) for key, rows in list(groups.items()) if key[1]}


def leaderboard_tables(cells: list[dict[str, Any]]) -> list[Table]:
    """Two tables for each data set and budget, best row first: with all labels, and with few."""
    tables = []
    for (data, budget), rows in sorted(group_rows(cells).items()):
        title = f"{data}, {budget:g} CPU seconds"
        tables.append(Table(title=title, caption=correlation_sentence(correlation_summary(rows))))
        for column in ("task", "seeds", "20-NN", "linear", "best layer", "steps", "images/s"):
            tables[-1].add_column(column, justify="left" if column == "task" else "right")
        for name, row in sort_rows(rows, "linear"):
            speed = [format_mean(row, key, 0) for key in ("steps", "images_per_second")]
            probes = [format_probe(row, key) for key in ("knn", "linear", "linear_best_layer")]
            tables[-1].add_row(name, str(len(row)), *probes, *speed)
        tables.append(Table(title=f"{title}, 10 labels per class"))
        for column in ("task", "seeds", "accuracy, %"):
            tables[-1].add_column(column, justify="left" if column == "task" else "right")
        for name, row in sort_rows(rows, FEW_LABELS):
            tables[-1].add_row(name, str(len(row)), format_probe(row, FEW_LABELS))
    return tables


def sort_rows(rows: Rows, key: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """The rows that have this probe, best first."""
    measured = [row for row in rows.items() if all(key in cell["probes"] for cell in row[1])]
    return sorted(measured, key=lambda row: -mean(cell["probes"][key] for cell in row[1]))


def format_probe(row: list[dict[str, Any]], key: str) -> str:
    """Mean of a probe over the seeds, and its standard deviation if there are several; empty if a seed lacks it."""
    return format_mean([cell["probes"] for cell in row], key)


def format_mean(values: list[dict[str, Any]], key: str, digits: int = 1) -> str:
    """Mean of a number, and its standard deviation if there are several; empty if one of them lacks it."""
    if not all(key in value for value in values):
        return ""
    numbers = [value[key] for value in values]
    deviation = f" ± {stdev(numbers):.{digits}f}" if len(numbers) > 1 and digits else ""
    return f"{mean(numbers):,.{digits}f}{deviation}"


def correlation_summary(rows: Rows) -> dict[str, Any]:
    """How well label-free metrics order the cells that have them by the linear probe; empty if fewer than MIN_RUNS."""
    cells = [cell for row in rows.values() for cell in row if "label_free" in cell]
    if len(cells) < MIN_RUNS:
        return {}
    correlations = rank_correlations(
        [LabelFreeMetrics(**cell["label_free"]) for cell in cells], [cell["probes"]["linear"] for cell in cells]
    )
    data, budget = next((cell["data"], cell["budget"]) for row in rows.values() for cell in row if cell["budget"])
    return {
        "data": data, "cpu_seconds": budget, "runs": len(cells), "tasks": len({cell["task"] for cell in cells}),
        "spearman": {name: value and round(value, 3) for name, value in correlations.items()},
    }  # fmt: skip


def correlation_sentence(summary: dict[str, Any]) -> str | None:
    """The line below a table; None if there is no summary."""
    if not summary:
        return None
    words = ", ".join(f"{name} {value:+.2f}" for name, value in summary["spearman"].items() if value is not None)
    return f"Spearman's rank correlation with linear, {summary['runs']} runs of {summary['tasks']} tasks: {words}"
