"""``headway embed``: write the features of pictures."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from tyro.conf import Positional

from headway.cli.screen import counting, name_skipped
from headway.data.open import open_source
from headway.data.source import Source
from headway.downstream.classifier import refuse_existing
from headway.downstream.features import extract
from headway.downstream.stream import stream
from headway.downstream.swap import load_run, view_size
from headway.errors import HeadwayError
from headway.files import write_whole


def embed(run: Positional[str], *, data: str | Path | Source, out: str | Path) -> dict[str, Any]:
    """Write the pooled features of pictures: arrays "features" (float32, one row a picture) and "files".

    Example: headway embed runs/photos --data photos --out features.npz

    Args:
        run: A run folder that ``headway pretrain`` wrote.
        data: Pictures: a folder, tars, or a CSV with a column "file".
        out: The .npz file to write; it must not exist.

    Returns:
        out, pictures, width (numbers a picture), skipped.
    """
    file = refuse_existing(Path(out))
    if file.suffix != ".npz":
        raise HeadwayError(f"--out '{out}' does not end in .npz, the one format that embed writes")
    backbone, _ = load_run(Path(run))
    size = view_size(backbone)
    source = open_source(data, like=backbone)
    rows: list[np.ndarray] = []
    names: list[str] = []
    skipped: list[tuple[str, str]] = []
    with counting("embedding") as progress:
        for some in stream(source, size, progress):
            skipped.extend(some.skipped)
            names.extend(some.names)
            if some.names:
                rows.append(extract(backbone, some.images, size).numpy())
    features = np.concatenate(rows)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream_:
            np.savez(stream_, features=features, files=np.array(names, dtype=np.str_))

    write_whole(file, write)
    name_skipped(skipped)
    return {"out": str(file), "pictures": len(names), "width": int(features.shape[1]), "skipped": len(skipped)}


def show(answer: dict[str, Any]) -> None:
    """Print the answer as a line."""
    Console(soft_wrap=True, highlight=False, markup=False).print(
        f"{answer['pictures']:,} pictures x {answer['width']} numbers in {answer['out']}, {answer['skipped']:,} skipped"
    )
