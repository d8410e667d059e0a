"""``headway export``: writes one file that runs without Headway."""

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from headway.cli.console import print_line, stderr_console
from headway.downstream.classifier import CLASSIFIER_FILE, load_classifier
from headway.downstream.export import FORMATS, checked_export_bytes, exportable_backbone, exportable_classifier
from headway.downstream.head_swap import load_run
from headway.errors import HeadwayError
from headway.utils.files import refuse_existing, write_bytes


def export(model: Positional[str], *, out: str | Path) -> dict[str, Any]:
    """Write a classifier, or the backbone of a run, as one file that runs without Headway.

    FILE.onnx is for onnxruntime and other ONNX runtimes (pip install onnx onnxscript onnxruntime), FILE.pt2 for
    torch.export.load. The file takes any number of images at once. Before it is written, its outputs are compared with
    Headway's own.

    Example: headway export models/photos --out photos.onnx

    Args:
        model: A classifier that ``headway transfer`` wrote (the outputs are probabilities), or a run (the outputs are
            features); or a weights file, or timm:NAME (timm fetches its weights).
        out: The file to write, .onnx or .pt2; it must not exist.

    Returns:
        out, bytes, input (name, type, shape, range, preprocessing), outputs (their names) and, of a classifier,
        classes: the description that the file holds under the key "headway".
    """
    file, folder = refuse_existing(Path(out)), Path(model)
    if file.suffix not in FORMATS:
        raise HeadwayError(f"--out '{out}' must end in {' or '.join(FORMATS)}, which selects the format")
    is_classifier = (folder / CLASSIFIER_FILE).is_file()
    exportable = (
        exportable_classifier(load_classifier(folder)) if is_classifier else exportable_backbone(load_run(model)[0])
    )
    with stderr_console.status("exporting, and comparing outputs"):
        content = checked_export_bytes(exportable, file.suffix)
    write_bytes(file, content)
    return {"out": str(file), "bytes": len(content), **exportable.describe()}


def print_result(result: dict[str, Any]) -> None:
    """Print the description of the file in a few lines."""
    spec, classes = result["input"], f" of {', '.join(result['classes'])}" if "classes" in result else ""
    shape = " x ".join(map(str, spec["shape"]))
    print_line(f"in   {spec['name']}: {spec['type']}, {shape}, in 0 to 1; {spec['preprocessing']}")
    print_line(f"out  {', '.join(result['outputs'])}{classes}")
    print_line(f"{result['out']}, {result['bytes'] / 1e6:.1f} MB; its outputs equal Headway's")
