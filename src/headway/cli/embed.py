"""``headway embed``: write the features of pictures."""

import csv
import io
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from tyro.conf import Positional

from headway.backbones.weights import digest_of
from headway.cli.screen import counting, name_skipped
from headway.data.open import open_source
from headway.data.source import Source
from headway.downstream.classifier import refuse_existing
from headway.downstream.embedding import check_embedding
from headway.downstream.embedding import embed as compute
from headway.downstream.growing import Growing
from headway.downstream.stream import identity, stream
from headway.downstream.swap import load_run, view_size
from headway.errors import HeadwayError

WHOLE = "whole"
ROWS, TABLE = f"{WHOLE}/features.npy", f"{WHOLE}/files.csv"
PIECE = 1 << 24
"""Bytes copied at a time."""


def embed(
    run: Positional[str],
    *,
    data: str | Path | Source,
    out: str | Path,
    features: Literal["pooled", "prefix", "patches"] = "pooled",
    layer: int | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Write the features of pictures, in order, in constant memory.

    A file OUT.npz holds the arrays "features" (float32, one row a picture) and "files"; a folder OUT holds features.npy
    and files.csv. Until it is whole, OUT.partial holds what there is.

    Example: headway embed runs/photos --data photos --out features.npz

    Args:
        run: A run folder that ``headway pretrain`` wrote, or a classifier's; or a file of weights, or timm:NAME (timm
            fetches its weights).
        data: Pictures: a folder, tars, or a CSV with a column "file".
        out: The .npz file or the folder to write; it must not exist.
        features: One vector a picture (pooled), one a class token and register (prefix), or one a patch (patches).
        layer: Of which block (0 is the first, -1 the last); none: of the whole backbone, its last norm included.
        resume: Go on where a command that was killed had come to.

    Returns:
        out, pictures, width (numbers a vector), skipped.
    """
    target = refuse_existing(Path(out))
    if target.suffix not in ("", ".npz"):
        raise HeadwayError(f"--out '{out}' is neither a .npz file nor a folder (a name without a dot)")
    backbone, _ = load_run(run)
    check_embedding(backbone, features, layer)
    size, source = view_size(backbone), open_source(data, like=backbone)
    job = {"weights": digest_of(backbone), "data": identity(source), "features": features, "layer": layer, "size": size}
    growing = Growing(target, job, (ROWS, TABLE), resume=resume)
    if not growing.next:
        growing.notes = {"shape": [], "longest": 1}
    with growing, counting("embedding") as progress:
        for some in stream(source, size, progress, growing.next, growing.count):
            table, rows = io.StringIO(newline=""), b""
            lines = csv.writer(table)
            if not growing.next:
                lines.writerow(["file"])
            lines.writerows([name] for name in some.names)
            if some.names:
                array = compute(backbone, some.images, size, features, layer).numpy()
                growing.notes["shape"] = list(array.shape[1:])
                growing.notes["longest"] = max(growing.notes["longest"], *map(len, some.names))
                rows = array.tobytes()
            parts = {ROWS: rows if growing.next else _header(0, ()) + rows, TABLE: _encoded(table.getvalue())}
            growing.add(parts, some.upto, len(some.names), some.skipped)
    shape = tuple(growing.notes["shape"])

    def make(folder: Path) -> Path:
        with (folder / ROWS).open("r+b") as file:
            file.write(_header(growing.count, shape))
        return _zipped(folder, growing) if target.suffix else folder / WHOLE

    growing.finish(make)
    name_skipped(growing.named, total=growing.skipped)
    return {"out": str(target), "pictures": growing.count, "width": int(shape[-1]), "skipped": growing.skipped}


def _header(count: int, shape: tuple[int, ...]) -> bytes:
    """The head of a .npy file, always of one length, so that it can be rewritten when the number of rows is known."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (count, *shape)})
    magic, text = head.getvalue()[:8], head.getvalue()[10:].rstrip()
    return magic + (256 - 10).to_bytes(2, "little") + text.ljust(256 - 11) + b"\n"


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _zipped(folder: Path, growing: Growing) -> Path:
    """A .npz of the two arrays, piece by piece."""
    whole = folder / "whole.npz"
    with zipfile.ZipFile(whole, "w") as archive:
        with (
            archive.open(zipfile.ZipInfo("features.npy"), "w", force_zip64=True) as to,
            (folder / ROWS).open("rb") as rows,
        ):
            while piece := rows.read(PIECE):
                to.write(piece)
        longest = growing.notes["longest"]
        with (
            archive.open(zipfile.ZipInfo("files.npy"), "w", force_zip64=True) as to,
            (folder / TABLE).open(newline="", encoding="utf-8", errors="surrogateescape") as names,
        ):
            head = {"descr": f"<U{longest}", "fortran_order": False, "shape": (growing.count,)}
            np.lib.format.write_array_header_1_0(to, head)
            for number, row in enumerate(csv.reader(names)):
                if number:
                    to.write(np.array([row[0]], dtype=f"<U{longest}").tobytes())
    return whole


def show(answer: dict[str, Any]) -> None:
    """Print the answer as a line."""
    Console(soft_wrap=True, highlight=False, markup=False).print(
        f"{answer['pictures']:,} pictures x {answer['width']} numbers in {answer['out']}, {answer['skipped']:,} skipped"
    )
