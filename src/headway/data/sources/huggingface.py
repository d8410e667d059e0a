"""A source over a ``Dataset`` of Hugging Face's ``datasets``. Its encoded images are decoded as all others are.

https://huggingface.co/docs/datasets. The library is not imported here: a user who has such an object has the library.
"""

import os
from pathlib import Path
from typing import Any

from headway.data.sources.base import LabeledSource, SourceKind, sorted_classes
from headway.data.sources.files import read_regular_file
from headway.errors import HeadwayError, UnreadableImageError


def is_huggingface_dataset(data: object) -> bool:
    """Whether this is a ``datasets.Dataset``, recognized by its typed columns."""
    return all(hasattr(data, name) for name in ("features", "column_names", "cast_column"))


class HuggingFaceSource(LabeledSource):
    """A source over the rows of a data set with a column of images and, optionally, one of classes.

    Args:
        data: A ``datasets.Dataset``; neither a dictionary of splits nor a streamed data set.
        labeled: Read the labels from the first column of type ClassLabel, else from the column "label".

    Raises:
        HeadwayError: No column has type Image.
    """

    def __init__(self, data: Any, labeled: bool):
        column_types = {name: type(feature).__name__ for name, feature in data.features.items()}
        column = next((name for name, column_type in column_types.items() if column_type == "Image"), None)
        if column is None:
            raise HeadwayError(
                "no-images", f"no column of this data set is of type Image; it has {', '.join(column_types)}"
            )
        self.image_column = column
        self.rows = data.cast_column(column, type(data.features[column])(decode=False)).select_columns([column])
        self.arrow_rows = self.rows.with_format("arrow")  # reads a file's path without copying its bytes
        label_column = next((name for name, column_type in column_types.items() if column_type == "ClassLabel"), None)
        label_column = label_column or ("label" if "label" in column_types else None)
        super().__init__(None)
        if labeled and label_column:
            class_names = getattr(data.features[label_column], "names", None)
            values = data.select_columns([label_column])[:][label_column]
            self.labels = [None if v is None or v == -1 else str(class_names[v] if class_names else v) for v in values]
            self.classes = tuple(class_names) if class_names else sorted_classes(self.labels)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> bytes:
        """The image's encoded bytes. Raises UnreadableImageError or OSError."""
        cell = self.rows[index][self.image_column]
        if cell is None:
            raise UnreadableImageError("the row has no image")
        return cell["bytes"] if cell.get("bytes") else read_regular_file(Path(cell["path"]))

    def name(self, index: int) -> str:
        """The row's index and, if there is one, the file's name."""
        cell = self.arrow_rows[index][self.image_column][0]
        path = cell["path"].as_py() if cell.is_valid else None
        return f"{index:08d}/{os.path.basename(path or '')}".rstrip("/")


HUGGINGFACE = SourceKind(
    is_huggingface_dataset, lambda data, labeled, group_column: HuggingFaceSource(data, labeled is not False)
)
