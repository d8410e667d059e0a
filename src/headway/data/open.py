"""From what a person types to a source of pictures."""

import contextlib
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from headway.data.arrays import Arrays
from headway.data.braces import expand
from headway.data.files import PICTURES, Files
from headway.data.folder import TARS, open_folder
from headway.data.form import form_of
from headway.data.groups import grouped
from headway.data.hub import Hub, is_hub
from headway.data.items import PREFIX, open_items, open_torchvision
from headway.data.source import Chosen, Source, in_form
from headway.data.survey import remember, survey
from headway.data.table import TABLES, columns_of, open_table, with_labels
from headway.data.tar import Tar
from headway.errors import HeadwayError


def open_source(
    data: object,
    labelled: bool | None = False,
    labels: str | Path | None = None,
    *,
    group_by: str = "",
    channels: int = 0,
    span: tuple[float, float] | None = None,
    like: Any = None,
) -> Source:
    """Open pictures by what they are.

    Args:
        data: A folder, a tar or brace pattern of tars ('train-{0..4}.tar.gz'), a CSV or Parquet with a column "file",
            one picture, torchvision:NAME; or an object: a ``Source``, an array or tensor N C H W, a data set of
            Hugging Face's ``datasets``, or of torchvision's kind.
        labelled: Only pictures that have a label, of at least two classes. Without it no label is looked at; None:
            every picture, with its label where it has one.
        labels: A CSV with the columns file and label that labels the pictures by name; implies ``labelled``.
        group_by: What ties pictures together that no split may part: a column of the table, or a regular expression
            that is searched in their names, its first parentheses being the group.
        channels: C of every picture; 0: as most have. With C, C equal pages of a TIFF are one picture.
        span: The values that become 0 and 1; none: measured where the pictures have more than 8 bits.
        like: A trained backbone: channels and span are then those of its ``inputs``.

    Raises:
        HeadwayError: The path is missing, holds no pictures, or the labels do.
    """
    labelled = labelled if labels is None else True
    taken = labelled if labels is None else False
    column = _column(data if labels is None else labels, group_by)
    if isinstance(data, (str, Path)):
        source = _open(str(data), taken, column or "group")
    else:
        source = _open_object(data, taken is not False)
    if labels is not None:
        with _opening(str(labels)):
            table = _existing_file(Path(labels).expanduser())
        source = with_labels(source, table, column or "group")
    if group_by and not column:
        source = grouped(source, group_by)
    source = _labelled(source, labels or data) if labelled else source
    if like is not None:
        return in_form(source, form_of(like.inputs))
    if not channels and not span:
        return source
    found = survey(source, channels, span)
    if span and 2 * found.deep <= found.looked:
        raise HeadwayError("--span is for pictures of more than 8 bits, and most of these have 8; leave it out")
    chosen = Chosen(source, range(len(source)), form=found.form)
    remember(chosen, found)
    return chosen


def open_test(data: object, *, group_by: str = "", like: Any = None) -> Source | None:
    """Pictures to test on, of one class or more; none: None.

    Args:
        data: As for ``open_source``; pictures without a label are passed over later.
        group_by: The same; where it ties none of these pictures together, each stands for itself.
        like: The same.

    Raises:
        HeadwayError: The path is missing or holds no pictures.
    """
    if data is None:
        return None
    if group_by:
        with contextlib.suppress(HeadwayError):  # what else is wrong is wrong without it too
            return open_source(data, labelled=None, group_by=group_by, like=like)
    return open_source(data, labelled=None, like=like)


def _open_object(data: object, labelled: bool) -> Source:
    if isinstance(data, Source):
        return data
    if isinstance(data, (np.ndarray, Tensor)):
        return Arrays(data)
    if is_hub(data):
        return Hub(data, labelled)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, (dict, bytes)):
        return open_items(data, labelled)
    raise HeadwayError(
        f"data must be a path, an array, a data set or a source of pictures (headway.data.source), "
        f"got {type(data).__name__}"
    )


def _open(text: str, labelled: bool | None, group: str) -> Source:
    if text.startswith(PREFIX):
        return open_torchvision(text, labelled is not False)
    with _opening(text):
        return _open_path(text, labelled, group)


@contextlib.contextmanager
def _opening(text: str) -> Iterator[None]:
    """Says what is wrong with a path: no right to look, a name too long, no such user, a NUL."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise HeadwayError(f"cannot open '{text[:200]}': {getattr(error, 'strerror', None) or error}") from error


def _column(data: object, group_by: str) -> str:
    """``group_by`` in lower case where it is a column of a table that is given; else empty."""
    if not group_by or not isinstance(data, (str, Path)):
        return ""
    with _opening(str(data)):
        table = Path(data).expanduser()
        if table.suffix.lower() not in TABLES or group_by.lower() not in columns_of(_existing_file(table)):
            return ""
    return group_by.lower()


def _open_path(text: str, labelled: bool | None, group: str) -> Source:
    path = Path(text).expanduser()
    if "{" in text and not path.exists():
        return Tar([_existing_file(Path(name).expanduser()) for name in expand(text)], labelled is not False)
    _existing(path)
    if path.is_dir():
        return open_folder(path, labelled is not False)
    _existing_file(path)
    if path.name.endswith(TARS):
        return Tar([path], labelled is not False)
    if path.suffix.lower() in TABLES:
        return open_table(path, labelled, group)
    if path.suffix.lower() in PICTURES:
        return Files(path.parent, [path.name], [None] if labelled is not False else None)
    raise HeadwayError(f"'{text}' is no folder, tar ({', '.join(TARS)}), table ({', '.join(TABLES)}) or picture")


def _existing(path: Path) -> Path:
    """The path. Raises HeadwayError where nothing is there, with the nearest name beside it."""
    if path.exists():
        return path
    missing = path
    while missing.parent != missing and not missing.parent.exists():
        missing = missing.parent
    beside = [entry.name for entry in missing.parent.iterdir()] if missing.parent.is_dir() else []
    near = difflib.get_close_matches(missing.name, beside, n=1)
    advice = f"did you mean '{missing.parent / near[0]}'?" if near else f"'{missing.parent}' holds no '{missing.name}'"
    raise HeadwayError(f"nothing at '{path}': {advice}")


def _existing_file(path: Path) -> Path:
    if not _existing(path).is_file():
        raise HeadwayError(f"'{path}' is not a regular file")
    return path


def _labelled(source: Source, given: object) -> Source:
    """The pictures that have a label. Raises HeadwayError where they are of fewer than two classes."""
    indices = [index for index in range(len(source)) if source.label(index) is not None]
    seen = {source.label(index) for index in indices}
    where = f"'{given}'" if isinstance(given, (str, Path)) else type(given).__name__
    if not seen:
        raise HeadwayError(
            f"no picture of {where} has a label; put the pictures into one folder a class, .cls files into the tar, "
            f"or give a table with the columns file,label"
        )
    if len(seen) < 2:
        raise HeadwayError(f"all {len(indices)} labelled pictures of {where} are of the one class '{seen.pop()}'; "
                           f"a recogniser needs at least two")  # fmt: skip
    return source if len(indices) == len(source) else Chosen(source, indices)
