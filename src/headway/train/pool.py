"""Has the network seen the test pictures, without their labels? A run keeps the content hashes of its pictures.

Features of pictures that were in the unlabelled pool may be better than those of new ones, so that a test on them is
"transductive" and says so. Equal means equal in every pixel, whatever files the pictures lie in.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from headway.errors import HeadwayError
from headway.files import write_whole

POOL = "pool.npy"
"""In a run folder: the sorted content hashes (int64, 8 bytes a picture) of the pictures it was trained on."""


def keep_pool(run: Path, hashes: Tensor) -> None:
    """Write the hashes of the pictures that a run was trained on (N, int64, as ``Store.hashes``)."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, hashes.sort().values.numpy(), allow_pickle=False)

    write_whole(run / POOL, write)


def seen_in_pretraining(run: Path, hashes: Tensor) -> int | None:
    """How many pictures of these hashes the run was trained on; None where it kept no record (or is a mere file)."""
    if not (run / POOL).is_file():
        return None
    try:
        pool = np.load(run / POOL, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise HeadwayError(f"cannot read {run / POOL}: {error}") from error
    return int(torch.isin(hashes, torch.from_numpy(pool)).sum())


def transductive(seen: int | None, of: int) -> str | None:
    """The sentence to print beside a result; None where nothing need be said."""
    if seen is None:
        return "whether test pictures were among the unlabelled ones is not known: the run kept no record of them"
    if seen:
        return f"transductive: {seen:,} of {of:,} test pictures were among the unlabelled ones that the run learnt from"
    return None
