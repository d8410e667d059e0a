"""The pictures of a run: stored as large as its task wants them, and the same ones on every process and in every part.

Each process decodes for itself, and the order of pictures and the number of steps follow from how many it could read.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from headway.data.source import Source
from headway.data.store import Store, build_store, natural_size
from headway.distributed import all_counts, all_rows
from headway.errors import HeadwayError
from headway.train.job import Job, stored_side

NAMED = 3
"""Pictures that are named of those that a process skipped."""


def store_pictures(
    job: Job, source: Source, size: int, cache: Path | None, decoding: Callable[[int, int], None] | None
) -> Store:
    """Decode them.

    Args:
        job: Its recipe's ``detail`` counts.
        source: The pictures.
        size: Side of the main view.
        cache: Folder for those that do not fit into memory; none: a temporary one.
        decoding: Told how many of how many are decoded.

    Raises:
        HeadwayError: Fewer than two could be read.
    """
    side = stored_side(natural_size(source)[0], size, job.recipe.detail)
    store = build_store(source, side, cache=cache, progress=decoding)
    if len(store.images) < 2:
        raise HeadwayError(
            f"{len(store.images)} picture could be read; self-supervision compares pictures and needs at least 2"
        )
    return store


def check_pictures(store: Store, device: torch.device, known: dict[str, Any] | None, resumed: Path | None) -> None:
    """Refuse pictures that are not the same everywhere; every process must call.

    Args:
        store: This process's.
        device: On which the processes talk to one another.
        known: The record of the run that is resumed or repeated, if one is.
        resumed: The folder of the former.

    Raises:
        HeadwayError: On every process: one holds others than the rest (it says which, and what that one skipped), or
            all hold others than the known run was trained on.
    """
    marks = all_counts(int(store.fingerprint[:15], 16))  # 60 bits of it
    if len(set(marks)) > 1:
        raise _parted(store, device, marks)
    if known and known["data"]["fingerprint"] != store.fingerprint:
        who, word = (resumed, "--resume") if resumed else ("the run", "--repeat")
        raise HeadwayError(f"{who} was trained on other pictures; {word} goes on with the same ones alone")


def _parted(store: Store, device: torch.device, marks: list[int]) -> HeadwayError:
    """The error for processes that hold different pictures: the odd one differs from that which holds the most."""
    counts = all_counts(len(store.images))
    whole = counts.index(max(counts))
    odd = next(process for process, mark in enumerate(marks) if mark != marks[whole])
    names = ", ".join(f"{name} ({reason})" for name, reason in store.skipped[:NAMED]) or "none"
    more = f" and {len(store.skipped) - NAMED:,} more" if len(store.skipped) > NAMED else ""
    return HeadwayError(
        f"process {odd} does not hold the pictures of process {whole} ({counts[odd]:,} and {counts[whole]:,} of them); "
        f"it skipped {_told(names + more, device)[odd]}; let every process read the same whole files with the same "
        "packages, then repeat the command"
    )


def _told(text: str, device: torch.device) -> list[str]:
    """Every process's text, in rank order."""
    letters = torch.tensor(list(text.encode("utf-8", "replace")), dtype=torch.uint8, device=device)
    everyone, _ = all_rows(letters)
    return [bytes(part.tolist()).decode() for part in everyone.split(all_counts(len(letters)))]
