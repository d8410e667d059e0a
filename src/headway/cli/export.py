"""``headway export``: one file that runs without Headway."""

from pathlib import Path
from typing import Any

from rich.console import Console
from tyro.conf import Positional

from headway.cli.screen import errors
from headway.downstream.classifier import RECORD, load_classifier, refuse_existing
from headway.downstream.portable import FORMATS, of_backbone, of_classifier, written
from headway.downstream.swap import load_run
from headway.errors import HeadwayError
from headway.files import write_bytes


def export(model: Positional[str], *, out: str | Path) -> dict[str, Any]:
    """Write a classifier, or the backbone of a run, as one file that runs without Headway.

    FILE.onnx is for onnxruntime and its kin (pip install onnx onnxscript onnxruntime), FILE.pt2 for torch.export.load.
    It takes any number of pictures at once, and is asked about some before it is kept: it must answer as Headway does.

    Example: headway export models/photos --out photos.onnx

    Args:
        model: A classifier that ``headway transfer`` wrote (probabilities come out), or a run (features come out); or
            a file of weights, or timm:NAME (timm fetches its weights).
        out: The file to write, by its ending; it must not exist.

    Returns:
        out, bytes, input (name, type, shape, range and how it is made), outputs (their names) and, of a classifier,
        classes: what the file says of itself under the key "headway".
    """
    file, folder = refuse_existing(Path(out)), Path(model)
    if file.suffix not in FORMATS:
        raise HeadwayError(f"--out '{out}' must end in {' or '.join(FORMATS)}, which says the format")
    named = (folder / RECORD).is_file()
    portable = of_classifier(load_classifier(folder)) if named else of_backbone(load_run(model)[0])
    with errors.status("writing, then asking what was written"):
        content = written(portable, file.suffix)
    write_bytes(file, content)
    return {"out": str(file), "bytes": len(content), **portable.describe()}


def show(answer: dict[str, Any]) -> None:
    """Print the answer as a few lines."""
    print = Console(soft_wrap=True, highlight=False, markup=False).print
    asked, of = answer["input"], f" of {', '.join(answer['classes'])}" if "classes" in answer else ""
    shape = " x ".join(map(str, asked["shape"]))
    print(f"in   {asked['name']}: {asked['type']}, {shape}, in 0 to 1; {asked['made so']}")
    print(f"out  {', '.join(answer['outputs'])}{of}")
    print(f"{answer['out']}, {answer['bytes'] / 1e6:.1f} MB; it answers as Headway does")
