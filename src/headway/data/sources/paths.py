"""Paths that a user gives, checked: an error names the most similar path that exists."""

import contextlib
import difflib
from collections.abc import Callable, Iterator
from pathlib import Path

from headway.data.sources.base import Source, SourceKind
from headway.errors import HeadwayError


def path_kind(
    matches: Callable[[Path], bool], open: Callable[[Path, bool | None, str], Source], title: str = ""
) -> SourceKind:
    """A kind of source that opens texts and paths; its two functions receive the path, with the user's folder for ~."""
    return SourceKind(
        lambda data: isinstance(data, (str, Path)) and matches(Path(data).expanduser()),
        lambda data, labeled, group_column: open(Path(data).expanduser(), labeled, group_column),
        title,
    )


@contextlib.contextmanager
def path_errors(text: str) -> Iterator[None]:
    """Report errors of a path as HeadwayError: no permission, a name too long, no such user, a NUL character."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise HeadwayError(
            "data-not-found", f"cannot open '{text[:200]}': {getattr(error, 'strerror', None) or error}"
        ) from error


def existing_path(path: Path) -> Path:
    """Return an existing path. Else raise HeadwayError, with the most similar name in the same folder."""
    if path.exists():
        return path
    missing = path
    while missing.parent != missing and not missing.parent.exists():
        missing = missing.parent
    beside = [entry.name for entry in missing.parent.iterdir()] if missing.parent.is_dir() else []
    near = difflib.get_close_matches(missing.name, beside, n=1)
    advice = f"did you mean '{missing.parent / near[0]}'?" if near else f"'{missing.parent}' holds no '{missing.name}'"
    raise HeadwayError("data-not-found", f"nothing at '{path}': {advice}")


def regular_file(path: Path) -> Path:
    """Return the path of a regular file. Raises HeadwayError for any other path, as ``existing_path`` does."""
    if not existing_path(path).is_file():
        raise HeadwayError("data-not-found", f"'{path}' is not a regular file")
    return path
