"""From what a person types to a source of pictures."""

import difflib
from pathlib import Path

from headway.data.braces import expand
from headway.data.files import PICTURES, Files
from headway.data.folder import TARS, open_folder
from headway.data.source import Chosen, Source
from headway.data.table import open_table, with_labels
from headway.data.tar import Tar
from headway.errors import HeadwayError


def open_source(data: str | Path | Source, labelled: bool | None = False, labels: str | Path | None = None) -> Source:
    """Open pictures by what they are.

    Args:
        data: A folder, a tar or brace pattern of tars ('train-{0..4}.tar.gz'), a CSV with a column "file", one picture,
            or any object that is a ``Source``.
        labelled: Only pictures that have a label, of at least two classes. Without it no label is looked at; None:
            every picture, with its label where it has one.
        labels: A CSV with the columns file and label that labels the pictures by name; implies ``labelled``.

    Raises:
        HeadwayError: The path is missing, holds no pictures, or the labels do.
    """
    labelled = labelled if labels is None else True
    if isinstance(data, (str, Path)):
        source = _open(str(data), labelled if labels is None else False)
    elif isinstance(data, Source):
        source = data
    else:
        raise HeadwayError(
            f"data must be a path or a source of pictures (headway.data.source), got {type(data).__name__}"
        )
    if labels is not None:
        source = with_labels(source, _existing(Path(labels).expanduser()))
    return _labelled(source, labels or data) if labelled else source


def _open(text: str, labelled: bool | None) -> Source:
    try:
        return _open_path(text, labelled)
    except (OSError, RuntimeError, ValueError) as error:  # no right to look, a name too long, no such user, a NUL
        raise HeadwayError(f"cannot open '{text[:200]}': {getattr(error, 'strerror', None) or error}") from error


def _open_path(text: str, labelled: bool | None) -> Source:
    path = Path(text).expanduser()
    if "{" in text and not path.exists():
        return Tar([_existing_file(Path(name).expanduser()) for name in expand(text)], labelled is not False)
    _existing(path)
    if path.is_dir():
        return open_folder(path, labelled is not False)
    _existing_file(path)
    if path.name.endswith(TARS):
        return Tar([path], labelled is not False)
    if path.suffix.lower() in (".csv", ".tsv"):
        return open_table(path, labelled)
    if path.suffix.lower() in PICTURES:
        return Files(path.parent, [path.name], [None] if labelled is not False else None)
    raise HeadwayError(f"'{text}' is no folder, tar ({', '.join(TARS)}), table (.csv, .tsv) or picture")


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
