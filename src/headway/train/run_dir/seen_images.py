"""Content hashes of the unlabeled images of a run, to detect test images that its network has seen.

Features of images from the unlabeled set may be better than those of new images. A test on them is therefore called
"transductive". Two images are equal where every pixel is, whatever files they come from.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from headway.errors import HeadwayError
from headway.utils.files import atomic_write

SEEN_IMAGES_FILE = "seen_images.npy"
"""In a run folder: the sorted content hashes (int64, 8 bytes per image) of the images that its network has seen, in
this run and in those that it continues. The file is missing where it is not known what the initial weights saw."""


def write_seen_images(run: Path, hashes: Tensor) -> None:
    """Write the hashes of the images that a run's network has seen (N, int64, as ``ImageStore.content_hashes``)."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, hashes.sort().values.numpy(), allow_pickle=False)

    atomic_write(run / SEEN_IMAGES_FILE, write)


def read_seen_images(run: Path) -> Tensor | None:
    """The hashes in a run folder (N, int64); None where it has none (or is a single file). Raises HeadwayError."""
    if not (run / SEEN_IMAGES_FILE).is_file():
        return None
    try:
        return torch.from_numpy(np.load(run / SEEN_IMAGES_FILE, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise HeadwayError("cannot-read", f"cannot read {run / SEEN_IMAGES_FILE}: {error}") from error


def count_seen_in_pretraining(run: Path, hashes: Tensor) -> int | None:
    """How many images of these hashes the run was trained on; None where that is not known."""
    seen = read_seen_images(run)
    return None if seen is None else int(torch.isin(hashes, seen).sum())


def transductive_note(seen: int | None, total: int) -> str | None:
    """The note to print with a result; None where no test image was seen."""
    if seen is None:
        return "whether test images were among the unlabeled ones is not known: nothing records what the network saw"
    if seen:
        return (
            f"transductive: {seen:,} of {total:,} test images were among the unlabeled ones that the run learned from"
        )
    return None
