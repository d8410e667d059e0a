"""Pictures anywhere below a folder, in any layout."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from headway.data.braces import contract
from headway.data.files import PICTURES, Files
from headway.errors import HeadwayError

TARS = (".tar", ".tar.gz", ".tgz")
"""How the names of tars end."""


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
    names, kinds = [], Counter[str]()
    for name in _walk(root):
        suffix = os.path.splitext(name)[1].lower()
        if suffix in PICTURES or name.endswith("/"):
            names.append(name)
        else:
            kinds[suffix or "no suffix"] += 1
    if not names:
        seen = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common(5)) or "none"
        raise HeadwayError(f"no pictures in '{root}': {kinds.total()} files looked at, kinds: {seen}")
    names.sort()
    labels = [name.split("/")[0] if "/" in name else None for name in names]
    return Files(root, names, labels if labelled else None)


def _walk(root: Path) -> Iterator[str]:
    """Names of files relative to the root; a folder that cannot be opened is given with a slash at its end.

    Real folders come first and links after them, so that a picture is found under its real name where it has one.
    """
    entered = set()
    folders, links = [""], list[str]()
    while folders or links:
        inside = folders.pop() if folders else links.pop(0)
        try:
            here = os.stat(root / inside)
            if (here.st_dev, here.st_ino) in entered:
                continue
            entered.add((here.st_dev, here.st_ino))
            with os.scandir(root / inside) as entries:
                found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
        except OSError:
            yield inside
            continue
        for entry in found:
            name = inside + entry.name
            if not _is_folder(entry):
                yield name
            else:
                (links if entry.is_symlink() else folders).append(name + "/")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
