"""Transfer learning by replacing the output layer: drop the pretext task, keep the backbone, attach a new head."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from torch import nn

from headway.backbones.base import ImageBackbone
from headway.backbones.build import load_timm
from headway.backbones.weights import load_backbone
from headway.errors import HeadwayError
from headway.protocol import Backbone, TrainModule
from headway.train.run_dir.checkpoint import WEIGHTS_FILE, step_folders

TensorShapes = Sequence[tuple[str, tuple[int, ...]]]


class HeadSwap(NamedTuple):
    """A backbone with a new output layer, and what was removed.

    Attributes:
        backbone: The network that was kept.
        head: B D -> B K, the output layer that was added.
        removed: Name and shape of every tensor of the pretext task.
    """

    backbone: Backbone
    head: nn.Module
    removed: TensorShapes

    def __str__(self) -> str:
        """A summary in three lines: what was removed, kept and added."""
        kept = [(name, tuple(tensor.shape)) for name, tensor in self.backbone.named_parameters(prefix="backbone")]
        added = [(name, tuple(tensor.shape)) for name, tensor in self.head.state_dict(prefix="head.").items()]
        rows = (("removed", self.removed), ("kept", kept), ("added", added))
        return "\n".join(
            f"{word:<8}{_num_parameters(shapes):>11,} parameters  {_module_names(shapes)}" for word, shapes in rows
        )


def swap_head(module: TrainModule, head: nn.Module) -> HeadSwap:
    """Replace the output layer: drop the module's task, keep its backbone, attach ``head``."""
    removed = tuple((f"task.{name}", tuple(tensor.shape)) for name, tensor in module.task.state_dict().items())
    return HeadSwap(module.backbone, head, removed)


def load_run(run: str | Path) -> tuple[ImageBackbone, TensorShapes]:
    """The backbone of a run, and the tensors of the pretext task that are not used any further.

    Args:
        run: A run folder; or a file of weights, or timm:NAME with the weights that timm downloads (these two have no
            pretext task).

    Raises:
        HeadwayError: Nothing is there, it is damaged, or it cannot be downloaded.
    """
    if str(run).startswith("timm:"):
        return load_timm(str(run)).float(), ()
    run = Path(run)
    if not run.is_file() and not (run / "model.safetensors").exists():
        hint = "finish it with --resume" if (run / "run.json").exists() else (
            "give the folder that pretrain wrote, a file of weights, or timm:NAME")  # fmt: skip
        raise HeadwayError("run-not-found", f"no finished run in '{run}' (it holds no model.safetensors); {hint}")
    backbone = load_backbone(run).float()  # heads are float32
    folders = step_folders(run) if run.is_dir() else []
    if not folders:
        return backbone, ()
    try:
        with safe_open(folders[-1] / WEIGHTS_FILE, framework="pt") as file:
            names = file.keys()
            task_names = [name for name in names if name.startswith("task.")]
            return backbone, tuple((name, tuple(file.get_slice(name).get_shape())) for name in task_names)
    except (OSError, SafetensorError):  # the task's tensors are only reported
        return backbone, ()


def _num_parameters(shapes: TensorShapes) -> int:
    return sum(math.prod(shape) for _, shape in shapes)


def _module_names(shapes: TensorShapes) -> str:
    """The modules that hold the tensors: the first two parts of their names."""
    return ", ".join(sorted({".".join(name.split(".")[:2]) for name, _ in shapes})) or "nothing"
