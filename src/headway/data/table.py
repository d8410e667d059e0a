"""Pictures and labels from a table: CSV or Parquet with the columns file, label (optional) and group (optional)."""

import csv
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from headway.data.files import Files
from headway.data.source import Chosen, Source, group_of
from headway.errors import HeadwayError

TABLES = (".csv", ".tsv", ".parquet")
"""How the names of tables end."""


class Row(NamedTuple):
    """One line of a table; label and group are None where they are empty or have no column."""

    file: str
    label: str | None
    group: str | None


def open_table(path: Path, labelled: bool | None = False, group: str = "group") -> Files:
    """The pictures that a table lists, by paths relative to it. Raises HeadwayError as ``read_rows`` does.

    Args:
        path: The table.
        labelled: Whether there must be labels; None: they are taken where there are any.
        group: The column that ties pictures together.
    """
    rows = read_rows(path, bool(labelled), group)
    labels = [row.label for row in rows] if labelled is not False else None
    return Files(path.parent, [row.file for row in rows], labels, [row.group for row in rows])


def with_labels(source: Source, path: Path, group: str = "group") -> Chosen:
    """The pictures of a source that a table labels, by name; where it gives no group, the source's own stays.

    Raises:
        HeadwayError: The table cannot be read, or names a picture that the source does not have.
    """
    places = {source.name(index): index for index in range(len(source))}
    rows = [row for row in read_rows(path, labelled=True, group=group) if row.label is not None]
    for row in rows:
        if row.file not in places:
            example = next(iter(places), "none")
            raise HeadwayError(
                f"'{path}' labels '{row.file}', which the data does not have; its names are like '{example}'"
            )
    indices = [places[row.file] for row in rows]
    groups = [row.group or group_of(source, index) for row, index in zip(rows, indices, strict=True)]
    return Chosen(source, indices, [row.label or "" for row in rows], groups)


def read_rows(path: Path, labelled: bool = False, group: str = "group") -> list[Row]:
    """Read a table: Parquet, or UTF-8 separated by commas, semicolons or tabs with its columns named in the first line.

    Args:
        path: The table.
        labelled: Whether there must be a column "label".
        group: The column that ties pictures together.

    Raises:
        HeadwayError: It cannot be read, lacks a column, lists nothing, or a line names no file.
    """
    wanted = {"file": "file", "label": "label", "group": group.lower()}
    lines = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    columns = next(lines)
    for needed in ("file", "label") if labelled else ("file",):
        if needed not in columns:
            raise HeadwayError(f"table '{path}' has no column '{needed}'; it has {', '.join(columns) or 'none'}")
    places = {name: columns.index(column) for name, column in wanted.items() if column in columns}
    rows = []
    for number, cells in enumerate(lines, 2):
        if cells:
            row = {name: cells[place].strip() for name, place in places.items() if place < len(cells)}
            if not row.get("file"):
                raise HeadwayError(f"table '{path}', line {number}: the column 'file' is empty")
            rows.append(Row(row["file"], row.get("label") or None, row.get("group") or None))
    if not rows:
        raise HeadwayError(f"table '{path}' lists no pictures")
    return rows


def columns_of(path: Path) -> list[str]:
    """The names of a table's columns, in lower case. Raises HeadwayError where it cannot be read."""
    return next(_parquet(path) if path.suffix.lower() == ".parquet" else _csv(path))


def _csv(path: Path) -> Iterator[list[str]]:
    """The names of the columns, then the cells of each line."""
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            heading = file.readline()
            separator = max(",;\t", key=heading.count)
            yield [name.strip().lower() for name in next(csv.reader([heading], delimiter=separator), [])]
            yield from csv.reader(file, delimiter=separator)
    except (OSError, csv.Error) as error:
        raise HeadwayError(f"cannot read the table '{path}': {error}") from error


def _parquet(path: Path) -> Iterator[list[str]]:
    """As ``_csv``. Raises HeadwayError where pyarrow, which reads it, is not there."""
    try:
        pyarrow, parquet = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
    except ImportError as error:
        raise HeadwayError(f"'{path}' is Parquet, which pyarrow reads: pip install pyarrow; or give a CSV") from error
    try:
        with parquet.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            yield [name.strip().lower() for name in names]
            for batch in file.iter_batches():
                columns = [batch.column(place).to_pylist() for place in range(len(names))]
                yield from (
                    ["" if cell is None else str(cell) for cell in cells] for cells in zip(*columns, strict=True)
                )
    except (OSError, pyarrow.ArrowException) as error:
        raise HeadwayError(f"cannot read the table '{path}': {' '.join(str(error).split())[:200]}") from error
