"""Knowledge transfer by changing the output layer: cut the pretext head, keep the backbone, join a new head."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import nn

from headway.backbones.load import timm_network
from headway.backbones.weights import load_backbone
from headway.errors import HeadwayError
from headway.protocol import Learner
from headway.train.checkpoint import WEIGHTS, steps

Shapes = Sequence[tuple[str, tuple[int, ...]]]


class Swap(NamedTuple):
    """A backbone with another output layer, and what was done to get there.

    Attributes:
        backbone: What was kept.
        head: B D -> B K, what was joined.
        cut: Name and shape of every tensor of the pretext task that was cut.
    """

    backbone: nn.Module
    head: nn.Module
    cut: Shapes

    def __str__(self) -> str:
        """Three lines a person can read."""
        kept = [(name, tuple(tensor.shape)) for name, tensor in self.backbone.named_parameters(prefix="backbone")]
        joined = [(name, tuple(tensor.shape)) for name, tensor in self.head.state_dict(prefix="head.").items()]
        rows = (("cut", self.cut), ("kept", kept), ("joined", joined))
        return "\n".join(f"{word:<7}{_count(shapes):>11,} numbers  {_names(shapes)}" for word, shapes in rows)


def swap(learner: Learner, head: nn.Module) -> Swap:
    """Change the output layer: cut the learner's task, keep its backbone, join ``head``."""
    cut = tuple((f"task.{name}", tuple(tensor.shape)) for name, tensor in learner.task.state_dict().items())
    return Swap(learner.backbone, head, cut)


def load_run(run: str | Path) -> tuple[nn.Module, Shapes]:
    """The backbone of a run and the pretext tensors that are left behind.

    Args:
        run: Its folder; or a file of weights, or timm:NAME with the weights that timm fetches, which leave none behind.

    Raises:
        HeadwayError: Where there is none, it is damaged, or can't be fetched.
    """
    if str(run).startswith("timm:"):
        return timm_network(str(run)).float(), ()
    run = Path(run)
    if not run.is_file() and not (run / "model.safetensors").exists():
        hint = "finish it with --resume" if (run / "run.json").exists() else (
            "give the folder that pretrain wrote, a file of weights, or timm:NAME")  # fmt: skip
        raise HeadwayError(f"no finished run in '{run}' (it holds no model.safetensors); {hint}")
    backbone = load_backbone(run).float()  # heads are float32
    folders = steps(run) if run.is_dir() else []
    if not folders:
        return backbone, ()
    try:
        return backbone, _task_shapes(folders[-1] / WEIGHTS)
    except (OSError, SafetensorError):  # what was cut is only shown
        return backbone, ()


def _task_shapes(weights: Path) -> Shapes:
    with safe_open(weights, framework="pt") as file:
        names = file.keys()
        return tuple((name, tuple(file.get_slice(name).get_shape())) for name in names if name.startswith("task."))


def view_size(backbone: Any) -> int:
    """Side in pixels of the square view that a loaded backbone was trained at."""
    return int(backbone.config.size)


def _count(shapes: Shapes) -> int:
    return sum(math.prod(shape) for _, shape in shapes)


def _names(shapes: Shapes) -> str:
    """The parts that the tensors belong to, two words deep."""
    return ", ".join(sorted({".".join(name.split(".")[:2]) for name, _ in shapes})) or "nothing"
