"""A data set object of Hugging Face's ``datasets`` as a source: its pictures are read by our decoder, byte for byte.

https://huggingface.co/docs/datasets. The library itself is not imported: whoever has such an object has it.
"""

import os
from pathlib import Path
from typing import Any

from headway.data.files import read_whole
from headway.data.source import Unreadable, in_order
from headway.errors import HeadwayError


def is_hub(data: object) -> bool:
    """Whether this is a table of ``datasets``: it has typed columns."""
    return all(hasattr(data, name) for name in ("features", "column_names", "cast_column"))


class Hub:
    """Rows with a column of pictures, and perhaps one of classes.

    Args:
        data: A ``datasets.Dataset`` (not a dictionary of splits, nor a stream).
        labelled: Take the labels: of the first column of type ClassLabel, or of one named "label".

    Raises:
        HeadwayError: No column of pictures.
    """

    def __init__(self, data: Any, labelled: bool = False):
        kinds = {name: type(feature).__name__ for name, feature in data.features.items()}
        column = next((name for name, kind in kinds.items() if kind == "Image"), None)
        if column is None:
            raise HeadwayError(f"no column of this data set is of type Image; it has {', '.join(kinds)}")
        self.column = column
        self.rows = data.cast_column(column, type(data.features[column])(decode=False)).select_columns([column])
        self.table = self.rows.with_format("arrow")  # whose cells are looked into without being taken out
        named = next((name for name, kind in kinds.items() if kind == "ClassLabel"), None)
        named = named or ("label" if "label" in kinds else None)
        self.classes: tuple[str, ...] | None = None
        self.labels: list[str | None] | None = None
        if labelled and named:
            words = getattr(data.features[named], "names", None)
            values = data.select_columns([named])[:][named]
            self.labels = [None if v is None or v == -1 else str(words[v] if words else v) for v in values]
            self.classes = tuple(words) if words else in_order(self.labels)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> bytes:
        """The picture's file. Raises Unreadable or OSError."""
        cell = self.rows[index][self.column]
        if cell is None:
            raise Unreadable("the row has no picture")
        return cell["bytes"] if cell.get("bytes") else read_whole(Path(cell["path"]))

    def name(self, index: int) -> str:
        """Number and, where there is one, the file's name."""
        cell = self.table[index][self.column][0]
        path = cell["path"].as_py() if cell.is_valid else None
        return f"{index:08d}/{os.path.basename(path or '')}".rstrip("/")

    def label(self, index: int) -> str | None:
        """Its class, where labels were asked for and it has one."""
        return self.labels[index] if self.labels else None
