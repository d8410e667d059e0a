"""``headway embed``: writes the features of images."""

import csv
import io
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tyro.conf import Positional

from headway.backbones.weights import weights_sha256
from headway.cli.console import print_line, print_skipped, progress_bar
from headway.data.open import open_source
from headway.data.sources.base import DataLike
from headway.downstream.features.decode_stream import decode_chunks, source_fingerprint
from headway.downstream.features.embedding import check_embedding
from headway.downstream.features.embedding import embed as compute
from headway.downstream.features.resumable_writer import ResumableWriter
from headway.downstream.head_swap import input_size, load_run
from headway.errors import HeadwayError
from headway.utils.files import refuse_existing

RESULT_FOLDER = "result"
FEATURES_FILE, NAMES_FILE = f"{RESULT_FOLDER}/features.npy", f"{RESULT_FOLDER}/files.csv"
COPY_CHUNK_BYTES = 1 << 24
"""Bytes copied at a time into a .npz file."""


def embed(
    run: Positional[str],
    *,
    data: DataLike,
    out: str | Path,
    features: Literal["pooled", "prefix", "patches"] = "pooled",
    layer: int | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Write the features of images, in order, in constant memory.

    A file OUT.npz holds the arrays "features" (float32, one row per image) and "files"; a folder OUT holds features.npy
    and files.csv. Until the output is complete, OUT.partial holds the results so far.

    Example: headway embed runs/photos --data photos --out features.npz

    Args:
        run: A run folder that ``headway pretrain`` wrote, or a classifier's; or a weights file, or timm:NAME (timm
            fetches its weights).
        data: Images: a folder, tars, or a CSV with a column "file".
        out: The .npz file or the folder to write; it must not exist.
        features: One vector per image (pooled), per class token and register (prefix), or per patch (patches).
        layer: Block whose output is written (0 is the first, -1 the last); none: the backbone's output, after its last
            norm.
        resume: Continue an interrupted command.

    Returns:
        out, images, embed_dim (length of a vector), skipped.
    """
    target = refuse_existing(Path(out))
    if target.suffix not in ("", ".npz"):
        raise HeadwayError(f"--out '{out}' is neither a .npz file nor a folder (a name without a dot)")
    backbone, _ = load_run(run)
    check_embedding(backbone, features, layer)
    size, source = input_size(backbone), open_source(data, backbone=backbone)
    config = {
        "weights": weights_sha256(backbone), "data": source_fingerprint(source), "features": features, "layer": layer,
        "size": size,
    }  # fmt: skip
    writer = ResumableWriter(target, config, (FEATURES_FILE, NAMES_FILE), resume=resume)
    if not writer.next_index:
        writer.user_state = {"shape": [], "max_name_length": 1}
    state = writer.user_state
    with writer, progress_bar("embedding") as progress:
        for chunk in decode_chunks(source, size, progress, writer.next_index, writer.num_written):
            text, rows = io.StringIO(newline=""), b""
            lines = csv.writer(text)
            if not writer.next_index:
                lines.writerow(["file"])
            lines.writerows([name] for name in chunk.names)
            if chunk.names:
                array = compute(backbone, chunk.images, size, features, layer).numpy()
                state["shape"] = list(array.shape[1:])
                state["max_name_length"] = max(state["max_name_length"], *map(len, chunk.names))
                rows = array.tobytes()
            parts = {
                FEATURES_FILE: rows if writer.next_index else _npy_header(0, ()) + rows,
                NAMES_FILE: text.getvalue().encode("utf-8", "surrogateescape"),
            }
            writer.append(parts, chunk.next_index, len(chunk.names), chunk.skipped)
    shape = tuple(state["shape"])

    def make(folder: Path) -> Path:
        with (folder / FEATURES_FILE).open("r+b") as file:
            file.write(_npy_header(writer.num_written, shape))
        return _write_npz(folder, writer) if target.suffix else folder / RESULT_FOLDER

    writer.finish(make)
    print_skipped(writer.skipped_examples, total=writer.num_skipped)
    return {
        "out": str(target), "images": writer.num_written, "embed_dim": int(shape[-1]), "skipped": writer.num_skipped,
    }  # fmt: skip


def _npy_header(count: int, shape: tuple[int, ...]) -> bytes:
    """The header of a .npy file, of fixed length, so that it can be rewritten when the number of rows is known."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (count, *shape)})
    magic, text = header.getvalue()[:8], header.getvalue()[10:].rstrip()
    return magic + (256 - 10).to_bytes(2, "little") + text.ljust(256 - 11) + b"\n"


def _write_npz(folder: Path, writer: ResumableWriter) -> Path:
    """Write a .npz file of the two arrays, in chunks."""
    path = folder / "result.npz"
    with zipfile.ZipFile(path, "w") as archive:
        with (
            archive.open(zipfile.ZipInfo("features.npy"), "w", force_zip64=True) as target,
            (folder / FEATURES_FILE).open("rb") as rows,
        ):
            while chunk := rows.read(COPY_CHUNK_BYTES):
                target.write(chunk)
        length = writer.user_state["max_name_length"]
        with (
            archive.open(zipfile.ZipInfo("files.npy"), "w", force_zip64=True) as target,
            (folder / NAMES_FILE).open(newline="", encoding="utf-8", errors="surrogateescape") as names,
        ):
            header = {"descr": f"<U{length}", "fortran_order": False, "shape": (writer.num_written,)}
            np.lib.format.write_array_header_1_0(target, header)
            for i, row in enumerate(csv.reader(names)):
                if i:  # line 0 is the header
                    target.write(np.array([row[0]], dtype=f"<U{length}").tobytes())
    return path


def print_result(result: dict[str, Any]) -> None:
    """Print the result in a line."""
    print_line(
        f"{result['images']:,} images x {result['embed_dim']} features in {result['out']}, "
        f"{result['skipped']:,} skipped"
    )
