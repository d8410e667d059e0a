"""Write the features of any number of images as .npy or .npz, in constant memory, resumable."""

import csv
import io
from pathlib import Path

import numpy as np

from headway.backbones.embedding import FeatureKind, embed
from headway.backbones.weights import weights_sha256
from headway.data.dataset.decode_stream import decode_chunks, source_fingerprint
from headway.data.sources.base import Source
from headway.downstream.features.resumable_writer import ResumableWriter
from headway.protocol import Backbone
from headway.utils.progress import Progress

RESULT_FOLDER = "result"
FEATURES_FILE, NAMES_FILE = f"{RESULT_FOLDER}/features.npy", f"{RESULT_FOLDER}/files.csv"


def write_features(
    backbone: Backbone,
    source: Source,
    target: Path,
    features: FeatureKind,
    layer: int | None,
    *,
    resume: bool,
    progress: Progress,
) -> ResumableWriter:
    """Write the features of images, in order.

    Args:
        backbone: The network.
        source: The images.
        target: A .npz file, or a folder. Until it is complete, TARGET.partial holds the results so far.
        features: One vector per image (pooled), per class token and register (prefix), or per patch (patches).
        layer: Block whose output is written; None: the backbone's output.
        resume: Whether to go on with TARGET.partial.
        progress: Called with the number of images that are done and the number of all of them.

    Returns:
        The writer, which has counted; ``user_state["shape"]`` is the shape of an image's features.
    """
    size = backbone.image_size
    config = {
        "weights": weights_sha256(backbone), "data": source_fingerprint(source), "features": features, "layer": layer,
        "size": size,
    }  # fmt: skip
    writer = ResumableWriter(target, config, (FEATURES_FILE, NAMES_FILE), resume=resume)
    if not writer.next_index:
        writer.user_state = {"shape": [], "max_name_length": 1}
    state = writer.user_state
    with writer:
        for chunk in decode_chunks(source, size, progress, writer.next_index, writer.num_written):
            text, rows = io.StringIO(newline=""), b""
            lines = csv.writer(text)
            if not writer.next_index:
                lines.writerow(["file"])
            lines.writerows([name] for name in chunk.names)
            if chunk.names:
                array = embed(backbone, chunk.images, size, features, layer).numpy()  # n *
                state["shape"] = list(array.shape[1:])
                state["max_name_length"] = max(state["max_name_length"], *map(len, chunk.names))
                rows = array.tobytes()
                if not writer.num_written:
                    rows = _npy_header(0, state["shape"]) + rows  # the number of rows is not known yet
            parts = {FEATURES_FILE: rows, NAMES_FILE: text.getvalue().encode("utf-8", "surrogateescape")}
            writer.append(parts, chunk.next_index, len(chunk.names), chunk.skipped)

    def make(folder: Path) -> Path:
        with (folder / FEATURES_FILE).open("r+b") as file:
            file.write(_npy_header(writer.num_written, state["shape"]))
        return _write_npz(folder, writer) if target.suffix else folder / RESULT_FOLDER

    writer.finish(make)
    return writer


def _npy_header(count: int, shape: list[int]) -> bytes:
    """The header of a .npy file. NumPy pads it, so that its length does not depend on the number of rows."""
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def _write_npz(folder: Path, writer: ResumableWriter) -> Path:
    """Write a .npz file of the two arrays, which NumPy copies in chunks from memory-mapped files."""
    path, dtype = folder / "result.npz", np.dtype(f"<U{writer.user_state['max_name_length']}")
    names = np.lib.format.open_memmap(folder / "files.npy", mode="w+", dtype=dtype, shape=(writer.num_written,))
    with (folder / NAMES_FILE).open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.reader(file)
        next(rows)  # the header
        for i, row in enumerate(rows):
            names[i] = row[0]
    np.savez(path, features=np.load(folder / FEATURES_FILE, mmap_mode="r"), files=names)
    return path
