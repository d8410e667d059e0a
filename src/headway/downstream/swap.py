"""Knowledge transfer by changing the output layer: cut the pretext head, keep the backbone, join a new head."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from safetensors import safe_open
from torch import nn

from headway.backbones.weights import load_backbone
from headway.errors import HeadwayError
from headway.protocol import Learner
from headway.train.checkpoint import WEIGHTS, steps


class Swap(NamedTuple):
    """What a swap did.

    Attributes:
        cut: Name and shape of every tensor of the pretext task that was cut.
        kept: Numbers in the backbone.
        joined: Name and shape of every tensor of the new head.
    """

    cut: tuple[tuple[str, tuple[int, ...]], ...]
    kept: int
    joined: tuple[tuple[str, tuple[int, ...]], ...]

    def __str__(self) -> str:
        """Three lines a person can read."""
        return "\n".join(
            [
                f"cut    {_count(self.cut):>12,} numbers  {_names(self.cut)}",
                f"kept   {self.kept:>12,} numbers  backbone",
                f"joined {_count(self.joined):>12,} numbers  {_names(self.joined)}",
            ]
        )


def swap(learner: Learner, head: nn.Module) -> tuple[nn.Sequential, Swap]:
    """Cut a learner's task and join ``head`` (B D -> B K) to its backbone.

    Returns:
        A module from features to the new head's answers is not enough for prediction, so what comes back is
        ``nn.Sequential(backbone, head)`` as named parts ``[0]`` and ``[1]``, and what was done.
    """
    cut = [(f"task.{name}", tuple(tensor.shape)) for name, tensor in learner.task.state_dict().items()]
    return nn.Sequential(learner.backbone, head), describe_swap(cut, learner.backbone, head)


def describe_swap(cut: Iterable[tuple[str, tuple[int, ...]]], backbone: nn.Module, head: nn.Module) -> Swap:
    """What joining ``head`` to ``backbone`` after cutting ``cut`` amounts to."""
    joined = [(f"head.{name}", tuple(tensor.shape)) for name, tensor in head.state_dict().items()]
    return Swap(tuple(cut), sum(p.numel() for p in backbone.parameters()), tuple(joined))


def load_run(run: Path) -> tuple[nn.Module, tuple[tuple[str, tuple[int, ...]], ...]]:
    """The backbone of a run (or of a file of weights) and the pretext tensors that are left behind.

    Raises:
        HeadwayError: Where there is no run, or it is damaged.
    """
    if not run.is_file() and not (run / "model.safetensors").exists():
        hint = "finish it with --resume" if (run / "run.json").exists() else "give the folder that pretrain wrote"
        raise HeadwayError(f"no finished run in '{run}' (it holds no model.safetensors); {hint}")
    backbone = load_backbone(run)
    folders = steps(run) if run.is_dir() else []
    if not folders:
        return backbone, ()
    with safe_open(folders[-1] / WEIGHTS, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith("task.")]  # noqa: SIM118  a safe_open is no dictionary
        return backbone, tuple((name, tuple(file.get_slice(name).get_shape())) for name in names)


def view_size(backbone: nn.Module) -> int:
    """Side in pixels of the square view that a loaded backbone was trained at."""
    return int(backbone.config.size)  # type: ignore[arg-type]


def _count(tensors: Iterable[tuple[str, tuple[int, ...]]]) -> int:
    total = 0
    for _, shape in tensors:
        numbers = 1
        for side in shape:
            numbers *= side
        total += numbers
    return total


def _names(tensors: tuple[tuple[str, tuple[int, ...]], ...]) -> str:
    parts = sorted({".".join(name.split(".")[:2]) for name, _ in tensors})
    return ", ".join(parts) or "nothing"
