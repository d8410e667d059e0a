"""Excerpts of matrices as HTML tables: named rows and columns, values as colors, dots for what is left out."""

import html
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from headway.attention_viz.overlay import cell_color

ELLIPSIS, VERTICAL_ELLIPSIS, TIMES = "\N{HORIZONTAL ELLIPSIS}", "\N{VERTICAL ELLIPSIS}", "\N{MULTIPLICATION SIGN}"


def format_number(value: float, decimals: int = 2) -> str:
    """A number with a typographic minus sign, and none before zero."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if not float(text) else text.replace("-", "\N{MINUS SIGN}")


def format_shape(matrix: Tensor) -> str:
    """Rows x columns as text."""
    return f" {TIMES} ".join(map(str, matrix.shape))


def matrix_excerpt(
    name: str,
    matrix: Tensor,
    rows: Sequence[int],
    row_names: Sequence[str],
    columns: Sequence[int],
    column_names: Sequence[str],
    *,
    highlighted: int | None = None,
    decimals: int = 2,
    show_shape: bool = True,
) -> str:
    """A table of some rows and columns of a matrix; dots stand for the others.

    Args:
        name: HTML, the name of the matrix.
        matrix: Rows by columns.
        rows: Indices of the rows to show, ascending.
        row_names: One per row shown.
        columns: Indices of the columns to show, ascending.
        column_names: One per column shown.
        highlighted: Index of a row to mark.
        decimals: Digits after the point.
        show_shape: Whether the shape of the whole matrix follows its name.
    """
    shown = matrix[list(rows)][:, list(columns)].tolist()
    limit = max(abs(value) for row in shown for value in row)
    gap = f'<td class="gap">{ELLIPSIS}</td>'
    gaps = [gap if column != last + 1 else "" for last, column in pairwise([-1, *columns, matrix.shape[1]])]
    names = [f"<th>{html.escape(text)}</th>" for text in column_names]
    lines, previous = [f"<tr><th></th>{_with_gaps(names, gaps)}</tr>"], -1
    total = len(columns) + sum(map(bool, gaps[:-1]))
    dots = f'<tr><th></th><td class="gap" colspan="{total}">{VERTICAL_ELLIPSIS}</td></tr>'
    for row, text, values in zip(rows, row_names, shown, strict=True):
        if row != previous + 1:
            lines.append(dots)
        cells = [
            f'<td style="background: rgb{cell_color(v, -limit, limit)}">{format_number(v, decimals)}</td>'
            for v in values
        ]
        mark = ' class="followed"' if row == highlighted else ""
        lines.append(f"<tr{mark}><th>{html.escape(text)}</th>{_with_gaps(cells, gaps)}</tr>")
        previous = row
    if previous + 1 < matrix.shape[0]:
        lines.append(dots)
    size = f' <span class="shape">{format_shape(matrix)}</span>' if show_shape else ""
    return f'<div class="matrix"><div class="name">{name}{size}</div><table>{"".join(lines)}</table></div>'


def _with_gaps(cells: Sequence[str], gaps: Sequence[str]) -> str:
    """Cells, each after its gap, and the last gap."""
    return "".join(gap + cell for gap, cell in zip(gaps, [*cells, ""], strict=True))


def side_by_side(*parts: str) -> str:
    """Tables and figures in a row that wraps at the width of the window."""
    return f'<div class="beside">{"".join(parts)}</div>\n'
