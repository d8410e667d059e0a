"""``embed``: writes the features of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from headway.api.result import Result
from headway.utils.notes import note_skipped
from headway.utils.progress import ProgressCallback, stage_progress

if TYPE_CHECKING:
    from headway.data.sources.base import DataLike


@dataclass(frozen=True, repr=False)
class EmbedResult(Result):
    """What was written."""

    out: str
    """The file or folder."""
    images: int
    """Images whose features were written."""
    embed_dim: int
    """Length of a vector."""
    skipped: int
    """Images that could not be read."""


def embed(
    run: str,
    *,
    data: DataLike,
    out: str | Path,
    features: Literal["pooled", "prefix", "patches"] = "pooled",
    layer: int | None = None,
    resume: bool = False,
    progress: ProgressCallback | None = None,
) -> EmbedResult:
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
        progress: Called with the progress of each stage; none: silent.
    """
    from headway.backbones.embedding import check_embedding
    from headway.data.open import open_source
    from headway.downstream.features.feature_files import write_features
    from headway.downstream.head_swap import load_run
    from headway.errors import HeadwayError
    from headway.utils.files import refuse_existing

    target = refuse_existing(Path(out))
    if target.suffix not in ("", ".npz"):
        raise HeadwayError("output-format", f"--out '{out}' is neither a .npz file nor a folder (a name without a dot)")
    backbone, _ = load_run(run)
    check_embedding(backbone, features, layer)
    source = open_source(data, backbone=backbone)
    report = stage_progress(progress, "embedding")
    written = write_features(backbone, source, target, features, layer, resume=resume, progress=report)
    note_skipped(written.skipped_examples, total=written.num_skipped)
    embed_dim = int(written.user_state["shape"][-1])
    return EmbedResult(str(target), written.num_written, embed_dim, written.num_skipped)
