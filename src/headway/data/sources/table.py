"""Images, labels and groups from a table (CSV or Parquet), and groups from a pattern on the images' names."""

import codecs
import csv
import importlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from headway.data.sources.base import Source, SubsetSource
from headway.data.sources.files import FileSource
from headway.data.sources.paths import path_kind, regular_file
from headway.errors import HeadwayError

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
"""Suffixes of tables."""


class TableRow(NamedTuple):
    """One row of a table. ``label`` and ``group`` are None if the cell is empty or the column is missing."""

    file: str
    label: str | None
    group: str | None


def open_table(path: Path, labeled: bool | None, group_column: str) -> FileSource:
    """The images that a table lists, by paths relative to it. Raises HeadwayError as ``read_rows`` does.

    Args:
        path: The table.
        labeled: True: the column "label" is required. None: labels are read if there are any. False: they are not read.
        group_column: The column with the images' groups.
    """
    rows = [
        row._replace(file=_spelling(row.file, lambda name: os.path.lexists(path.parent / name)))
        for row in read_rows(path, bool(labeled), group_column)
    ]
    labels = [row.label for row in rows] if labeled is not False else None
    return FileSource(path.parent, [row.file for row in rows], labels, [row.group for row in rows])


def attach_labels(source: Source, path: Path, group_column: str) -> SubsetSource:
    """The images of a source that a table labels by name. Without a group in the table, an image keeps the source's.

    Raises:
        HeadwayError: The table cannot be read, or it names an image that the source does not have.
    """
    index_of = {source.name(index): index for index in range(len(source))}
    rows = [
        row._replace(file=_spelling(row.file, index_of.__contains__))
        for row in read_rows(path, labeled=True, group_column=group_column)
        if row.label is not None
    ]
    for row in rows:
        if row.file not in index_of:
            example = next(iter(index_of), "none")
            raise HeadwayError(
                "label-unknown",
                f"'{path}' labels '{row.file}', which the data does not have; its names are like '{example}'",
            )
    indices = [index_of[row.file] for row in rows]
    groups = [row.group or source.group(index) for row, index in zip(rows, indices, strict=True)]
    return SubsetSource(source, indices, [row.label or "" for row in rows], groups)


def _spelling(name: str, is_known: Callable[[str], bool]) -> str:
    """The spelling of a name in a table by which the data know it; the given one where there is none.

    Tables from Windows separate folders by backslashes, and are often in its code page 1252.
    """
    other = _as_code_page(name)
    if "\\" not in name and other == name:  # nearly every name: it costs no look-up
        return name
    spellings = (name, name.replace("\\", "/"), other, other.replace("\\", "/"))
    return next((spelling for spelling in spellings if is_known(spelling)), name)


def _as_code_page(text: str) -> str:
    """A text whose bytes are no UTF-8, read as Windows-1252."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    return text


def read_rows(path: Path, labeled: bool, group_column: str) -> list[TableRow]:
    """Read a table: Parquet, or UTF-8 text separated by commas, semicolons or tabs, with column names in line 1.

    Args:
        path: The table.
        labeled: Whether the column "label" is required.
        group_column: The column with the images' groups.

    Raises:
        HeadwayError: The table cannot be read, lacks a column or has no rows, or a row names no file.
    """
    wanted = {"file": "file", "label": "label", "group": group_column.lower()}
    lines = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    columns = next(lines)
    for needed in ("file", "label") if labeled else ("file",):
        if needed not in columns:
            raise HeadwayError(
                "table-invalid", f"table '{path}' has no column '{needed}'; it has {', '.join(columns) or 'none'}"
            )
    cell_of = {name: columns.index(column) for name, column in wanted.items() if column in columns}
    rows = []
    for number, cells in enumerate(lines, 2):
        if cells:
            row = {name: cells[cell].strip() for name, cell in cell_of.items() if cell < len(cells)}
            if not row.get("file"):
                raise HeadwayError("table-invalid", f"table '{path}', line {number}: the column 'file' is empty")
            label, group = (_as_code_page(row.get(name, "")) or None for name in ("label", "group"))
            rows.append(TableRow(row["file"], label, group))
    if not rows:
        raise HeadwayError("no-images", f"table '{path}' lists no images")
    return rows


def read_column_names(path: Path) -> list[str]:
    """The names of a table's columns, in lower case. Raises HeadwayError if the table cannot be read."""
    return next(_read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path))


def _read_csv(path: Path) -> Iterator[list[str]]:
    """Yield the names of the columns, then the cells of each line."""
    try:
        with path.open("rb") as binary:
            encoding = "utf-16" if binary.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
        errors = "strict" if encoding == "utf-16" else "surrogateescape"  # names of files may be any bytes
        with path.open(newline="", encoding=encoding, errors=errors) as file:
            heading = file.readline()
            separator = max(",;\t", key=heading.count)
            yield [name.strip().lower() for name in next(csv.reader([heading], delimiter=separator), [])]
            yield from csv.reader(file, delimiter=separator)
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise HeadwayError("table-invalid", f"cannot read the table '{path}': {error}") from error


def _read_parquet(path: Path) -> Iterator[list[str]]:
    """As ``_read_csv``. Raises HeadwayError if pyarrow is not installed."""
    try:
        pyarrow, parquet = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
    except ImportError as error:
        raise HeadwayError(
            "missing-package", f"'{path}' is Parquet, which needs pyarrow: pip install pyarrow; or pass a CSV"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            columns = [name.strip().lower() for name in names]
            pixels = [field.name for field in file.schema_arrow if _holds_bytes(field.type, pyarrow.types)]
            if pixels and (pixels[0].strip().lower() == "file" or "file" not in columns):
                raise HeadwayError(
                    "table-invalid",
                    f"'{path}' has images in its column '{pixels[0]}' and no column 'file' with their names (it has "
                    f"{', '.join(columns)}); write the images to files, or from Python pass "
                    f"datasets.load_dataset('parquet', data_files='{path}', split='train')",
                )
            yield columns
            for batch in file.iter_batches():
                cells = [batch.column(number).to_pylist() for number in range(len(names))]
                yield from (["" if cell is None else str(cell) for cell in row] for row in zip(*cells, strict=True))
    except (OSError, pyarrow.ArrowException) as error:
        raise HeadwayError(
            "table-invalid", f"cannot read the table '{path}': {' '.join(str(error).split())[:200]}"
        ) from error


def _holds_bytes(kind: Any, types: Any) -> bool:
    """Whether cells of this Arrow type hold encoded images: bytes, or a structure with bytes in it."""
    if types.is_struct(kind):
        return any(_holds_bytes(kind.field(number).type, types) for number in range(kind.num_fields))
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def group_by_pattern(source: Source, pattern: str) -> SubsetSource:
    """The same images, each in the group that a pattern finds in its name.

    Args:
        source: The images.
        pattern: A regular expression. The match of its first parentheses (without parentheses, of the whole pattern)
            is the group. An image whose name does not match is a group of its own.

    Raises:
        HeadwayError: The pattern is not a regular expression, or it matches no name.
    """
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise HeadwayError(
            "value-unreadable", f"--group-by '{pattern}' is not a regular expression: {error}"
        ) from error
    matches = [regex.search(source.name(index)) for index in range(len(source))]
    if not any(matches):
        example = source.name(0) if len(source) else "none"
        raise HeadwayError(
            "group-unknown",
            f"--group-by '{pattern}' is neither a column of a table nor matches any name; names are like '{example}'",
        )
    groups = [None if match is None else match[1 if regex.groups else 0] for match in matches]
    return SubsetSource(source, range(len(source)), groups=groups)


TABLE = path_kind(
    lambda path: path.suffix.lower() in TABLE_SUFFIXES,
    lambda path, labeled, group_column: open_table(regular_file(path), labeled, group_column),
    f"table ({', '.join(TABLE_SUFFIXES)})",
)
