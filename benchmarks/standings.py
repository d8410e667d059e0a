"""What the cells of ``leaderboard.py`` come to: tables, and how far label-free measures can be trusted."""

from collections import defaultdict
from statistics import mean, stdev
from typing import Any

from rich.table import Table

from headway.evaluation.label_free import LabelFreeMetrics, rank_correlations

Rows = dict[str, list[dict[str, Any]]]


def grouped(cells: list[dict[str, Any]]) -> dict[tuple[str, float], Rows]:
    """By data set and budget the cells of each row, with those that need no budget."""
    groups: dict[tuple[str, float], Rows] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        groups[cell["data"], cell["budget"]][f"{cell['task']} {cell['variant']}".strip()].append(cell)
    return {key: rows | groups.get((key[0], 0.0), {}) for key, rows in list(groups.items()) if key[1]}


def tables(cells: list[dict[str, Any]]) -> list[Table]:
    """Two tables for each data set and budget, the best row first: of all labels, and of few."""
    made = []
    for (data, budget), rows in sorted(grouped(cells).items()):
        title = f"{data}, {budget:g} processor seconds"
        made.append(Table(title=title, caption=in_words(trust(rows))))
        for column in ("task", "seeds", "20-NN", "linear", "best layer", "steps", "pictures/s"):
            made[-1].add_column(column, justify="left" if column == "task" else "right")
        for name, found in ordered(rows, "linear"):
            speed = [mean_of(found, key, 0) for key in ("steps", "images_per_second")]
            made[-1].add_row(
                name, str(len(found)), *(probe_of(found, key) for key in ("knn", "linear", "best")), *speed
            )
        made.append(Table(title=f"{title}, 10 labels a class"))
        for column in ("task", "seeds", "right"):
            made[-1].add_column(column, justify="left" if column == "task" else "right")
        for name, found in ordered(rows, "ten"):
            made[-1].add_row(name, str(len(found)), probe_of(found, "ten"))
    return made


def ordered(rows: Rows, key: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """The rows that have this probe, the best first."""
    having = [row for row in rows.items() if all(key in cell["probes"] for cell in row[1])]
    return sorted(having, key=lambda row: -mean(cell["probes"][key] for cell in row[1]))


def probe_of(found: list[dict[str, Any]], key: str) -> str:
    """Mean and, of several, deviation of a probe over the seeds of a row; nothing where it wasn't made."""
    return mean_of([cell["probes"] for cell in found], key)


def mean_of(found: list[dict[str, Any]], key: str, digits: int = 1) -> str:
    """Mean and, of several, deviation of a number; nothing where one of them lacks it."""
    if not all(key in cell for cell in found):
        return ""
    values = [cell[key] for cell in found]
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 and digits else ""
    return f"{mean(values):,.{digits}f}{deviation}"


FEWEST = 8
"""Runs of which an order says anything: of eight, chance gives a rank correlation of 0.74 once in twenty times."""


def trust(rows: Rows) -> dict[str, Any]:
    """How well label-free measures order the cells that have them by the linear probe; empty where these are few."""
    known = [cell for found in rows.values() for cell in found if "label_free" in cell]
    if len(known) < FEWEST:
        return {}
    found = rank_correlations(
        [LabelFreeMetrics(**c["label_free"]) for c in known], [c["probes"]["linear"] for c in known]
    )
    data, budget = next((cell["data"], cell["budget"]) for cells in rows.values() for cell in cells if cell["budget"])
    return {
        "data": data, "cpu_seconds": budget, "runs": len(known),
        "tasks": len({cell["task"] for cell in known}), "spearman": {k: v and round(v, 3) for k, v in found.items()},
    }  # fmt: skip


def in_words(found: dict[str, Any]) -> str | None:
    """A line below the table."""
    if not found:
        return None
    words = ", ".join(f"{name} {value:+.2f}" for name, value in found["spearman"].items() if value is not None)
    return f"Spearman's rank correlation with linear, {found['runs']} runs of {found['tasks']} tasks: {words}"
