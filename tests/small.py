"""Small learners and pictures for tests."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from headway.backbones.load import build_backbone
from headway.backbones.vit import ViT, ViTConfig
from headway.config import Optim
from headway.downstream.supervised import Supervised, SupervisedTask
from headway.draws import seeded
from headway.pretext import find_recipe
from headway.pretext.combined import Combined
from headway.protocol import Facts, Inputs, Learner
from headway.train.cut import whole_tensor
from headway.train.loop import fit
from headway.train.plan import Plan

SIDE, PICTURES = 16, 20
LARGE = 64
"""Side of the view for timm's networks, whose cells are 32 pixels wide."""
INPUTS = Inputs((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
SMALLER: dict[str, dict[str, Any]] = {
    "relative_position": {"hidden": 16},
    "jigsaw": {"permutations": 5, "projection": 8, "hidden": 16},
    "simclr": {"hidden": 16, "projection": 8},
    "mae": {"width": 32, "depth": 1},
    "colorization": {"bin": 20.0, "width": 8},
    "inpainting": {"width": 8, "adversary": 0.1},
    "dino": {"prototypes": 12, "hidden": 16, "bottleneck": 8, "small_crops": 2, "freeze": 0.2},
    "moco_v3": {"hidden": 16, "projection": 8},
    "byol": {"hidden": 16, "projection": 8},
    "simsiam": {"projection": 16, "bottleneck": 8},
    "barlow_twins": {"projection": 16},
    "vicreg": {"projection": 16},
    "swav": {"prototypes": 12, "hidden": 16, "projection": 8, "small_crops": 2, "queue": 17, "freeze": 0.2},
    "ijepa": {"width": 32, "depth": 1},
    "ibot": {"prototypes": 12, "hidden": 16, "bottleneck": 8, "small_crops": 2, "freeze": 0.2},
    "dinov2": {"prototypes": 12, "hidden": 16, "bottleneck": 8, "small_crops": 2, "freeze": 0.2},
    "lejepa": {"directions": 16, "hidden": 16, "projection": 8, "small_crops": 2},
}


def pictures(count: int = PICTURES, side: int = SIDE + 8, seed: int = 0) -> torch.Tensor:
    """Smooth coloured noise, N 3 side side uint8: enough to tell pictures and their turns apart."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return (fine * 255).to(torch.uint8)


def small_backbone(name: str = "vit", pool: str = "mean", side: int = SIDE, **choices: Any) -> torch.nn.Module:
    """A ViT of width 16, or whatever ``build_backbone`` makes of the name."""
    if name == "vit":
        token = pool == "class"
        config = ViTConfig(
            width=16, depth=2, attention_heads=2, patch_size=4, size=side, inputs=INPUTS, pool=pool,
            class_token=token, **choices,
        )  # fmt: skip
        return ViT(config)
    return build_backbone(name, size=side, inputs=INPUTS, **choices)


def small_learner(
    task: str, backbone: str = "vit", seed: int = 0, count: int = PICTURES, side: int = SIDE, **choices: Any
) -> Learner:
    """A learner for one of TASKS, or for a combination of them, at a size that trains in moments."""
    recipe = find_recipe(task)
    images = pictures(count, side + 8)
    with seeded(seed):
        pool = recipe.pool if backbone == "vit" else "mean"
        network = small_backbone(backbone, pool, side, **choices)
        game = smaller(task, recipe.task).build(network, Facts(count, 3, lambda n: images[:n], side))
        return Learner(network, game)


def smaller(task: str, config: Any) -> Any:
    """The choices of a game, or of each in a combination, with heads that train in moments."""
    if isinstance(config, Combined):
        return replace(config, **{name: smaller(name, part) for name, part in config.parts.items()})
    return replace(config, **SMALLER.get(task, {}))


def train(
    task: str, steps: int = 12, accumulate: int = 1, batch: int = 12, precision: str = "float64", backbone: str = "vit",
    drop_path: float = 0.0, run: str | None = None, stop_after: int | None = None, resume: bool = False, seed: int = 0,
    method: Literal["adamw", "muon"] = "adamw", **choices: Any,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Train a small learner and give back its whole weights; the same on any number of processes.

    ``choices`` are further fields of the plan.
    """
    learner = small_learner(task, backbone, seed=seed, **({"drop_path": drop_path} if drop_path else {}))
    plan = Plan(steps=steps, batch=batch, accumulate=accumulate, precision=precision, seed=seed, **choices)  # type: ignore[arg-type]
    optim = Optim(method=method, lr=0.02, warmup=0.1)
    where = Path(run) if run else None
    fit(learner, pictures(), plan, optim, run=where, stop_after=stop_after, resume=resume)
    return {name: whole_tensor(tensor.detach()).clone() for name, tensor in learner.state_dict().items()}


def supervised(accumulate: int = 1) -> dict[str, torch.Tensor]:
    """Train on labels in float64; the same on any number of processes."""
    with seeded(0):
        backbone = small_backbone()
        task = SupervisedTask(torch.nn.Linear(16, 3), torch.arange(PICTURES) % 3, SIDE, Supervised())
    learner = Learner(backbone, task)
    plan = Plan(steps=8, batch=11, accumulate=accumulate, precision="float64")
    fit(learner, pictures(), plan, Optim(lr=0.02, warmup=0.1))
    return {name: tensor.detach().clone() for name, tensor in learner.state_dict().items()}


def farthest(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """The largest difference between two state dicts of the same names."""
    assert first.keys() == second.keys()
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)
