"""Load the images of a run at the side that its task needs, and check that every process has the same ones.

Each process decodes for itself, and the order of images and the number of steps depend on how many it could read.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from headway.backbones.input_size import storage_side
from headway.data.dataset.image_store import ImageStore, build_store, median_short_side
from headway.data.sources.base import Source
from headway.distributed import all_gather_int, all_gather_rows
from headway.errors import HeadwayError
from headway.train.config import PretrainConfig

MAX_NAMED_SKIPPED = 3
"""Names of skipped images that an error message shows."""


def load_images(
    config: PretrainConfig,
    source: Source,
    size: int,
    cache: Path | None,
    decode_progress: Callable[[int, int], None] | None,
) -> ImageStore:
    """Decode the images of a source.

    Args:
        config: Its recipe's ``storage_scale`` counts.
        source: The images.
        size: Side of the main view in pixels.
        cache: Folder for images that do not fit into memory; None: a temporary one.
        decode_progress: Called with the number of decoded images and the number of all.

    Raises:
        HeadwayError: Fewer than two could be read.
    """
    side = storage_side(median_short_side(source)[0], size, config.recipe.storage_scale)
    store = build_store(source, side, cache_folder=cache, progress=decode_progress)
    if len(store.images) < 2:
        raise HeadwayError(
            "too-few-images",
            f"{len(store.images)} image could be read; self-supervision compares images and needs at least 2",
        )
    return store


def check_same_images(
    store: ImageStore, device: torch.device, reference: dict[str, Any] | None, resumed_run: Path | None
) -> None:
    """Refuse images that differ between processes or from those of an earlier run; every process must call.

    Args:
        store: The images of this process.
        device: Device for collectives.
        reference: The record of the run that is resumed or reproduced, if any.
        resumed_run: Folder of the run that is resumed, if any.

    Raises:
        HeadwayError: On every process: one process has other images than the rest (the message says which one, and what
            it skipped), or all have other images than the reference run.
    """
    fingerprints = all_gather_int(int(store.fingerprint[:15], 16))  # the first 60 bits
    if len(set(fingerprints)) > 1:
        raise _mismatch_error(store, device, fingerprints)
    if reference and reference["data"]["fingerprint"] != store.fingerprint:
        run, option = (resumed_run, "--resume") if resumed_run else ("the run", "--reproduce")
        raise HeadwayError("resume-differs", f"{run} was trained on other images; {option} needs the same ones")


def _mismatch_error(store: ImageStore, device: torch.device, fingerprints: list[int]) -> HeadwayError:
    """The error for processes with different images: names one that differs from the process with the most images."""
    counts = all_gather_int(len(store.images))
    whole = counts.index(max(counts))
    other = next(process for process, value in enumerate(fingerprints) if value != fingerprints[whole])
    names = ", ".join(f"{name} ({reason})" for name, reason in store.skipped[:MAX_NAMED_SKIPPED]) or "none"
    more = f" and {len(store.skipped) - MAX_NAMED_SKIPPED:,} more" if len(store.skipped) > MAX_NAMED_SKIPPED else ""
    return HeadwayError(
        "images-differ",
        f"process {other} does not have the images of process {whole} ({counts[other]:,} and {counts[whole]:,} of "
        f"them); it skipped {_all_gather_text(names + more, device)[other]}; let every process read the same complete "
        "files with the same packages, then repeat the command",
    )


def _all_gather_text(text: str, device: torch.device) -> list[str]:
    """Every process's text, in rank order."""
    encoded = torch.tensor(list(text.encode("utf-8", "replace")), dtype=torch.uint8, device=device)
    gathered, _ = all_gather_rows(encoded)
    return [bytes(part.tolist()).decode() for part in gathered.split(all_gather_int(len(encoded)))]
