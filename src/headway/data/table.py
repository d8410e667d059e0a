"""Pictures and labels from a table: a CSV with the columns file, label (optional) and group (optional)."""

import csv
from pathlib import Path
from typing import NamedTuple

from headway.data.files import Files
from headway.data.source import Chosen, Source
from headway.errors import HeadwayError


class Row(NamedTuple):
    """One line of a table; label and group are None where they are empty or have no column."""

    file: str
    label: str | None
    group: str | None


def open_table(path: Path, labelled: bool | None = False) -> Files:
    """The pictures that a table lists, by paths relative to it. Raises HeadwayError as ``read_rows`` does.

    Args:
        path: The table.
        labelled: Whether there must be labels; None: they are taken where there are any.
    """
    rows = read_rows(path, bool(labelled))
    labels = [row.label for row in rows] if labelled is not False else None
    return Files(path.parent, [row.file for row in rows], labels, [row.group for row in rows])


def with_labels(source: Source, path: Path) -> Chosen:
    """The pictures of a source that a table labels, by name.

    Raises:
        HeadwayError: The table cannot be read, or names a picture that the source does not have.
    """
    places = {source.name(index): index for index in range(len(source))}
    rows = [row for row in read_rows(path, labelled=True) if row.label is not None]
    for row in rows:
        if row.file not in places:
            example = next(iter(places), "none")
            raise HeadwayError(
                f"'{path}' labels '{row.file}', which the data does not have; its names are like '{example}'"
            )
    return Chosen(
        source, [places[row.file] for row in rows], [row.label or "" for row in rows], [row.group for row in rows]
    )


def read_rows(path: Path, labelled: bool = False) -> list[Row]:
    """Read a table: UTF-8, separated by commas, semicolons or tabs, with its columns named in the first line.

    Args:
        path: The table.
        labelled: Whether there must be a column "label".

    Raises:
        HeadwayError: It cannot be read, lacks a column, lists nothing, or a line names no file.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            heading = file.readline()
            separator = max(",;\t", key=heading.count)
            columns = [name.strip().lower() for name in next(csv.reader([heading], delimiter=separator), [])]
            for needed in ("file", "label") if labelled else ("file",):
                if needed not in columns:
                    raise HeadwayError(
                        f"table '{path}' has no column '{needed}'; it has {', '.join(columns) or 'none'}"
                    )
            lines = csv.reader(file, delimiter=separator)
            rows = [_row(dict(zip(columns, line, strict=False)), path, lines.line_num + 1) for line in lines if line]
    except (OSError, csv.Error) as error:
        raise HeadwayError(f"cannot read the table '{path}': {error}") from error
    if not rows:
        raise HeadwayError(f"table '{path}' lists no pictures")
    return rows


def _row(cells: dict[str, str], path: Path, line: int) -> Row:
    cells = {name: cell.strip() for name, cell in cells.items()}
    if not cells.get("file"):
        raise HeadwayError(f"table '{path}', line {line}: the column 'file' is empty")
    return Row(cells["file"], cells.get("label") or None, cells.get("group") or None)
