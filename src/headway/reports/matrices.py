"""Matrices on a page: a small excerpt with named rows, signs as colours, and how much was left out."""

import html
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from headway.reports.overlay import heat

STYLE = """
.beside { display: flex; flex-wrap: wrap; gap: 1.25rem 2rem; align-items: flex-start; margin: .75rem 0 }
.matrix { max-width: 100%; overflow-x: auto }
.matrix table { border-collapse: collapse; font: .82rem/1.3 ui-monospace, monospace }
.matrix td, .matrix th { padding: .2rem .45rem; text-align: right; font-weight: normal; white-space: nowrap }
.matrix th { color: var(--faint) }
.matrix td { color: #202124; background: #fcfbf8 }
.matrix .gap { color: var(--faint); background: none; text-align: center }
.matrix tr.followed th { color: var(--ink); font-weight: 700 }
.matrix tr.followed td:not(.gap) { border-block: 2px solid #2f7de1 }
.matrix .name { margin-bottom: .3rem }
.shape { padding-left: .5rem; color: var(--faint); white-space: nowrap }
"""
ACROSS, DOWN, TIMES = "\N{HORIZONTAL ELLIPSIS}", "\N{VERTICAL ELLIPSIS}", "\N{MULTIPLICATION SIGN}"


def number(value: float, places: int = 2) -> str:
    """With a true minus sign, and no minus before a zero."""
    text = f"{value:.{places}f}"
    return text.lstrip("-") if not float(text) else text.replace("-", "\N{MINUS SIGN}")


def shape(matrix: Tensor) -> str:
    """Rows x columns in words."""
    return f" {TIMES} ".join(map(str, matrix.shape))


def excerpt(
    name: str,
    matrix: Tensor,
    rows: Sequence[int],
    row_names: Sequence[str],
    columns: Sequence[int],
    column_names: Sequence[str],
    *,
    followed: int | None = None,
    places: int = 2,
    sized: bool = True,
) -> str:
    """A table of some rows and columns of a matrix; dots stand where others were left out.

    Args:
        name: HTML, what the matrix is called.
        matrix: Rows by columns, numbers of the run.
        rows: Which rows, ascending.
        row_names: What each is called, one a row shown.
        columns: Which columns, ascending.
        column_names: One a column shown.
        followed: The row that the page follows, which is marked.
        places: Behind the point.
        sized: Whether the whole matrix's shape stands beside its name.
    """
    shown = matrix[list(rows)][:, list(columns)].tolist()
    span = max(abs(value) for row in shown for value in row)
    gap = f'<td class="gap">{ACROSS}</td>'
    ahead = [gap if column != last + 1 else "" for last, column in pairwise([-1, *columns, matrix.shape[1]])]
    names = [f"<th>{html.escape(text)}</th>" for text in column_names]
    lines, before = [f"<tr><th></th>{_gapped(names, ahead)}</tr>"], -1
    wide = len(columns) + sum(map(bool, ahead[:-1]))
    dots = f'<tr><th></th><td class="gap" colspan="{wide}">{DOWN}</td></tr>'
    for row, text, values in zip(rows, row_names, shown, strict=True):
        if row != before + 1:
            lines.append(dots)
        cells = [f'<td style="background: rgb{heat(v, -span, span)}">{number(v, places)}</td>' for v in values]
        mark = ' class="followed"' if row == followed else ""
        lines.append(f"<tr{mark}><th>{html.escape(text)}</th>{_gapped(cells, ahead)}</tr>")
        before = row
    if before + 1 < matrix.shape[0]:
        lines.append(dots)
    size = f' <span class="shape">{shape(matrix)}</span>' if sized else ""
    return f'<div class="matrix"><div class="name">{name}{size}</div><table>{"".join(lines)}</table></div>'


def _gapped(cells: Sequence[str], ahead: Sequence[str]) -> str:
    """Cells with what stands ahead of each, and after the last."""
    return "".join(a + cell for a, cell in zip(ahead, [*cells, ""], strict=True))


def beside(*parts: str) -> str:
    """Tables and figures in a row, as far as the window is wide."""
    return f'<div class="beside">{"".join(parts)}</div>\n'
