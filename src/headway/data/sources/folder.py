"""Find the images below a folder, in any layout."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from headway.data.sources.brace_expansion import to_brace_patterns
from headway.data.sources.files import IMAGE_SUFFIXES, FileSource, ignore_reason, suffix_of
from headway.data.sources.paths import path_kind
from headway.data.sources.tar_index import TAR_SUFFIXES
from headway.errors import HeadwayError

TRAIN_FOLDERS = frozenset(("train", "training"))
TEST_FOLDERS = frozenset(("test", "testing", "val", "valid", "validation"))
SPLIT_FOLDERS = TRAIN_FOLDERS | TEST_FOLDERS
"""Names of folders, in lower case, that are splits of a data set where all first-level folders are called so."""
MAX_IGNORED = 10_000
"""At most this many ignored files are listed by name."""


def open_folder(root: Path, labeled: bool | None) -> FileSource:
    """All images below a folder, sorted by name.

    Hidden files and folders are ignored, and so are files without an image suffix. Links to folders are followed, but
    no folder is visited twice. An image that cannot be opened is listed all the same, so that it is reported by name
    when it is read.

    Args:
        root: The folder.
        labeled: Use the first-level folder as the label; images directly in ``root`` have no label. Folders that are
            called train, val, test and so on are splits and no classes: with True they are refused, with None the
            label is the folder inside them.

    Raises:
        HeadwayError: The folder has no images, or tars alone (a tar is opened by its own name), or it holds splits.
    """
    names, suffix_counts, ignored = [], Counter[str](), list[tuple[str, str]]()
    entered = set[str]()
    for name, reason in _walk(root, entered):
        if reason is None:
            suffix = suffix_of(name)
            if suffix in IMAGE_SUFFIXES or name.endswith("/"):
                names.append(name)
                continue
            suffix_counts[suffix or "no suffix"] += 1
            reason = ignore_reason(name)
        if len(ignored) < MAX_IGNORED:
            ignored.append((name, reason))
    if not names:
        entries = sorted(path.name for path in root.iterdir())
        if tars := [name for name in entries if name.endswith(TAR_SUFFIXES) and not name.startswith(".")]:
            given = " or ".join(f"'{root / pattern}'" for pattern in to_brace_patterns(tars)[:3])
            raise HeadwayError("no-images", f"'{root}' is a folder of tars; pass the tars themselves: {given}")
        found_suffixes = ", ".join(f"{suffix} ({count})" for suffix, count in suffix_counts.most_common(5)) or "none"
        raise HeadwayError(
            "no-images", f"no images in '{root}': {suffix_counts.total()} other files, by suffix: {found_suffixes}"
        )
    names.sort()
    labels = _labels_of(root, names, bool(labeled))
    ignored += [(name, "a folder without images") for name in sorted(entered - _parent_folders(names))]
    return FileSource(root, names, None if labeled is False else labels, ignored=ignored)


def _labels_of(root: Path, names: list[str], required: bool) -> list[str | None]:
    """The class of each image: its first-level folder; inside splits the folder below."""
    first = {name.partition("/")[0] for name in names if "/" in name}
    if not first or not {folder.lower() for folder in first} <= SPLIT_FOLDERS:
        return [name.partition("/")[0] if "/" in name else None for name in names]
    if required:
        train = next((name for name in sorted(first) if name.lower() in TRAIN_FOLDERS), min(first))
        tests = sorted(first - {train}, key=lambda name: (name.lower() not in TEST_FOLDERS, name))
        test = f" --test {root / tests[0]}" if tests else ""
        raise HeadwayError(
            "split-folders",
            f"the folders {', '.join(sorted(first))} in '{root}' are splits and not classes; "
            f"give one of them: --data {root / train}{test}",
        )
    return [name.split("/", 2)[1] if name.count("/") > 1 else None for name in names]


def _parent_folders(names: list[str]) -> set[str]:
    """All folders that contain an image, directly or in a subfolder."""
    inside = {os.path.dirname(name) for name in names}
    return {
        folder[:end] for folder in inside for end in range(1, len(folder) + 1) if folder[end : end + 1] in ("", "/")
    }


def _walk(root: Path, entered: set[str]) -> Iterator[tuple[str, str | None]]:
    """Yield (name, None) for each file and (name, reason) for what is ignored; names are relative to the root.

    The name of a folder that cannot be opened ends in a slash. Real folders are visited before links, so that an image
    gets its real name if it has one below the root. The names of visited folders are added to ``entered``.
    """
    known = set()
    folders, links = [""], list[str]()
    while folders or links:
        inside = folders.pop() if folders else links.pop(0)
        try:
            here = os.stat(root / inside)
            if (here.st_dev, here.st_ino) in known:
                yield inside.rstrip("/"), "a link to a folder that was already visited"
                continue
            known.add((here.st_dev, here.st_ino))
            with os.scandir(root / inside) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            yield inside, None
            continue
        if inside:
            entered.add(inside.rstrip("/"))
        for entry in found:
            name = inside + entry.name
            if entry.name.startswith("."):
                yield name, "hidden"
            elif not _is_folder(entry):
                yield name, None
            else:
                (links if entry.is_symlink() else folders).append(name + "/")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


FOLDER = path_kind(Path.is_dir, lambda path, labeled, group_column: open_folder(path, labeled), "folder")
