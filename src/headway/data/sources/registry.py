"""The kinds of sources. A new kind is one file, and one line in ``SOURCES``."""

import contextlib
from pathlib import Path

from headway.data.sources import files, folder, huggingface, in_memory, objects, table, tar
from headway.data.sources.base import Source, SourceKind
from headway.data.sources.paths import path_errors, regular_file
from headway.errors import HeadwayError

SOURCES: list[SourceKind] = [
    objects.SOURCE,
    objects.SOURCE_LIKE,
    in_memory.TORCHVISION,
    folder.FOLDER,
    tar.TAR,
    table.TABLE,
    files.IMAGE_FILE,
    files.PATH_LIST,
    in_memory.ARRAY,
    huggingface.HUGGINGFACE,
    in_memory.INDEXABLE,
]
"""The first kind that can open the data opens it. INDEXABLE takes whatever has ``len`` and ``[]``, hence the end."""


ARCHIVE_SUFFIXES = (".zip", ".7z", ".rar")
"""Suffixes of archives that are to be unpacked first."""


def open_data(data: object, labeled: bool | None, group_column: str) -> Source:
    """Open data by the first of ``SOURCES`` that can. Raises HeadwayError if there is none.

    Args:
        data: A text, a path or an object.
        labeled: True: labels are required; None: they are read where there are any; False: not.
        group_column: The column of a table with the images' groups.
    """
    with path_errors(str(data)) if isinstance(data, (str, Path)) else contextlib.nullcontext():
        for kind in SOURCES:
            if kind.can_open(data):
                return kind.open(data, labeled, group_column)
        if isinstance(data, (str, Path)):
            regular_file(Path(data).expanduser())
            if Path(data).suffix.lower() in ARCHIVE_SUFFIXES:
                raise HeadwayError("data-unknown", f"'{data}' is an archive; unpack it, and give the folder or the tar")
            *titles, last = [kind.title for kind in SOURCES if kind.title]
            raise HeadwayError("data-unknown", f"'{data}' is not a {', '.join(titles)} or {last}")
    raise HeadwayError(
        "data-unknown",
        f"data must be a path, an array, a data set or a source of images (headway.data.sources.base), "
        f"got {type(data).__name__}",
    )
