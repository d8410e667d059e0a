"""Excerpts of matrices for tables: named rows and columns, values as colors, dots for what is left out."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from headway.attention_viz.overlay import cell_color

ELLIPSIS, TIMES = "\N{HORIZONTAL ELLIPSIS}", "\N{MULTIPLICATION SIGN}"


def format_number(value: float, decimals: int = 2) -> str:
    """A number with a typographic minus sign, and none before zero."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if not float(text) else text.replace("-", "\N{MINUS SIGN}")


def format_shape(matrix: Tensor) -> str:
    """Rows x columns as text."""
    return f" {TIMES} ".join(map(str, matrix.shape))


def matrix_excerpt(
    matrix: Tensor,
    rows: Sequence[int],
    row_names: Sequence[str],
    columns: Sequence[int],
    column_names: Sequence[str],
    *,
    highlighted: int | None = None,
    decimals: int = 2,
) -> dict[str, Any]:
    """What the template draws of a matrix: some rows and columns; None stands for what is left out between them.

    Args:
        matrix: Rows by columns.
        rows: Indices of the rows to show, ascending.
        row_names: One per row shown.
        columns: Indices of the columns to show, ascending.
        column_names: One per column shown.
        highlighted: Index of a row to mark.
        decimals: Digits after the point.
    """
    shown = matrix[list(rows)][:, list(columns)].tolist()
    limit = max(abs(value) for row in shown for value in row)
    lines = [
        {
            "name": name,
            "is_followed": row == highlighted,
            "cells": _with_gaps(
                [{"text": format_number(v, decimals), "color": cell_color(v, -limit, limit)} for v in values],
                columns,
                matrix.shape[1],
            ),
        }
        for row, name, values in zip(rows, row_names, shown, strict=True)
    ]
    header = _with_gaps(column_names, columns, matrix.shape[1])
    width = len(header) - (header[-1] is None)
    return {
        "shape": format_shape(matrix), "columns": header, "rows": _with_gaps(lines, rows, len(matrix)), "width": width,
    }  # fmt: skip


def _with_gaps(items: Sequence[Any], indices: Sequence[int], total: int) -> list[Any]:
    """The items, with None wherever indices of 0 to total - 1 are left out."""
    found: list[Any] = []
    for item, (last, index) in zip([*items, None], pairwise([-1, *indices, total]), strict=True):
        found += [None] if index != last + 1 else []
        found += [item] if index < total else []
    return found
