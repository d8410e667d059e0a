"""Pictures anywhere below a folder, in any layout."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from headway.data.braces import contract
from headway.data.files import PICTURES, Files, suffix_of, why_passed
from headway.errors import HeadwayError

TARS = (".tar", ".tar.gz", ".tgz")
"""How the names of tars end."""
MOST_PASSED = 10_000
"""Files that are no pictures are named up to this number."""
_COUNTED = "a link to a folder that is counted already"
_HIDDEN = "hidden"


def open_folder(root: Path, labelled: bool = False) -> Files:
    """All pictures below a folder, sorted by name.

    Hidden files and folders are passed over, and so are files whose suffix is no picture's. Links to folders are
    followed once: no folder is entered twice. A picture is listed even if it cannot be opened, so that it is skipped by
    name later.

    Args:
        root: The folder.
        labelled: Take the first-level folder as the label; pictures beside those folders have none.

    Raises:
        HeadwayError: No picture is there, or the folder holds tars, which are given by name instead.
    """
    tars = sorted(path.name for path in root.iterdir() if path.name.endswith(TARS) and not path.name.startswith("."))
    if tars:
        given = " or ".join(f"'{root / pattern}'" for pattern in contract(tars)[:3])
        raise HeadwayError(f"'{root}' is a folder of tars; give the tars themselves: {given}")
    names, kinds, passed = [], Counter[str](), list[tuple[str, str]]()
    entered = set[str]()
    for name, reason in _walk(root, entered):
        if reason is None:
            suffix = suffix_of(name)
            if suffix in PICTURES or name.endswith("/"):
                names.append(name)
                continue
            kinds[suffix or "no suffix"] += 1
            reason = why_passed(name)
        if len(passed) < MOST_PASSED:
            passed.append((name, reason))
    if not names:
        seen = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common(5)) or "none"
        raise HeadwayError(f"no pictures in '{root}': {kinds.total()} files looked at, kinds: {seen}")
    names.sort()
    labels = [name.split("/")[0] if "/" in name else None for name in names]
    passed += [(name, "a folder without pictures") for name in sorted(entered - _folders(names))]
    return Files(root, names, labels if labelled else None, passed=passed)


def _folders(names: list[str]) -> set[str]:
    """Every folder on the way to a picture."""
    inside = {os.path.dirname(name) for name in names}
    return {
        folder[:end] for folder in inside for end in range(1, len(folder) + 1) if folder[end : end + 1] in ("", "/")
    }


def _walk(root: Path, entered: set[str]) -> Iterator[tuple[str, str | None]]:
    """Names relative to the root of files, and of what is passed over with the reason.

    A folder that cannot be opened is given with a slash at its end. Real folders come first and links after them, so
    that a picture is found under its real name where it has one.
    """
    known = set()
    folders, links = [""], list[str]()
    while folders or links:
        inside = folders.pop() if folders else links.pop(0)
        try:
            here = os.stat(root / inside)
            if (here.st_dev, here.st_ino) in known:
                yield inside.rstrip("/"), _COUNTED
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
                yield name, _HIDDEN
            elif not _is_folder(entry):
                yield name, None
            else:
                (links if entry.is_symlink() else folders).append(name + "/")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
