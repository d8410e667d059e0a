"""``export``: writes one file that runs without Headway."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headway.api.result import OPTIONAL, Result
from headway.utils.progress import ProgressCallback, stage_progress


@dataclass(frozen=True, repr=False)
class ExportResult(Result):
    """The description of the file, which the file also holds under the key "headway"."""

    out: str
    """The file."""
    bytes: int
    """Its size."""
    created_by: str
    """Headway and its version."""
    input: dict[str, Any]
    """Name, type, shape, range and preprocessing of the input."""
    outputs: list[str]
    """Names of the outputs."""
    classes: list[str] | None = field(default=None, metadata=OPTIONAL)
    """The classes, of a classifier."""
    multilabel: bool | None = field(default=None, metadata=OPTIONAL)
    """Whether each class has a probability of its own, of a classifier."""
    value_range: list[float] | None = field(default=None, metadata=OPTIONAL)
    """The values in the files that become 0 and 1, where these are not those of 8 bits."""


def export(
    model: str,
    *,
    out: str | Path,
    target: str = "",
    progress: ProgressCallback | None = None,
) -> ExportResult:
    """Write a classifier, or the backbone of a run, as one file that runs without Headway.

    FILE.onnx is for onnxruntime and other ONNX runtimes (pip install onnx onnxscript onnxruntime), FILE.pt2 for
    torch.export.load. The file takes any number of images at once. Before it is written, its outputs are compared with
    Headway's own.

    Example: headway export models/photos --out photos.onnx

    Args:
        model: A classifier that ``headway transfer`` wrote (the outputs are probabilities), or a run (the outputs are
            features); or a weights file, or timm:NAME (timm fetches its weights).
        out: The file to write, .onnx or .pt2; it must not exist.
        target: Of a classifier with a target of your own: my_package.my_file:TARGET.
        progress: Called with the progress of each stage; none: silent.
    """
    from headway.downstream.classifier import CLASSIFIER_FILE, load_classifier
    from headway.downstream.export import FORMATS, checked_export_bytes, exportable_backbone, exportable_classifier
    from headway.downstream.head_swap import load_run
    from headway.errors import HeadwayError
    from headway.utils.files import refuse_existing, write_bytes

    file, folder = refuse_existing(Path(out)), Path(model)
    if file.suffix not in FORMATS:
        raise HeadwayError(
            "output-format", f"--out '{out}' must end in {' or '.join(FORMATS)}, which selects the format"
        )
    is_classifier = (folder / CLASSIFIER_FILE).is_file()
    exportable = (
        exportable_classifier(load_classifier(folder, target))
        if is_classifier
        else exportable_backbone(load_run(model)[0])
    )
    report = stage_progress(progress, "exporting, and comparing outputs")
    report(0, 1)
    content = checked_export_bytes(exportable, file.suffix)
    report(1, 1)
    write_bytes(file, content)
    return ExportResult(str(file), len(content), **exportable.describe())
