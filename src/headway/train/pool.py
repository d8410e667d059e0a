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
"""In a run folder: the sorted content hashes (int64, 8 bytes a picture) of the pictures that its network has seen, in
this run and in those that it goes on from; none, where what its first weights saw is not known."""


def keep_pool(run: Path, hashes: Tensor) -> None:
    """Write the hashes of the pictures that a run's network has seen (N, int64, as ``Store.hashes``)."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, hashes.sort().values.numpy(), allow_pickle=False)

    write_whole(run / POOL, write)


def read_pool(run: Path) -> Tensor | None:
    """The hashes that a run kept (N, int64); None where it kept none (or is a mere file). Raises HeadwayError."""
    if not (run / POOL).is_file():
        return None
    try:
        return torch.from_numpy(np.load(run / POOL, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise HeadwayError(f"cannot read {run / POOL}: {error}") from error


def seen_in_pretraining(run: Path, hashes: Tensor) -> int | None:
    """How many pictures of these hashes the run was trained on; None where that is not known."""
    pool = read_pool(run)
    return None if pool is None else int(torch.isin(hashes, pool).sum())


def transductive(seen: int | None, of: int) -> str | None:
    """The sentence to print beside a result; None where nothing need be said."""
    if seen is None:
        return "whether test pictures were among the unlabelled ones is not known: nothing records what the network saw"
    if seen:
        return f"transductive: {seen:,} of {of:,} test pictures were among the unlabelled ones that the run learnt from"
    return None
