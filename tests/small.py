"""Small train modules and images for tests."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from headway.backbones.build import build_backbone
from headway.backbones.vit import ViT
from headway.backbones.vit_config import ViTConfig
from headway.config import Optim
from headway.downstream.finetuning.supervised import SupervisedConfig, SupervisedTask
from headway.downstream.heads.registry import HeadKind, find_head
from headway.evaluation.methods import with_steps
from headway.pretext import find_recipe
from headway.pretext.combined import Combined
from headway.protocol import DataInfo, InputSpec, TrainModule
from headway.rng import seeded
from headway.train.config import Plan
from headway.train.engine.fabric import full_tensor
from headway.train.engine.workers import WorkerChoice
from headway.train.loop.loop import fit
from headway.train.plan import make_plan as planning

SIDE, NUM_IMAGES = 16, 20
LARGE = 64
"""Side of the view for timm's networks, whose stride is 32 pixels."""
INPUTS = InputSpec((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
SMALL_CONFIGS: dict[str, dict[str, Any]] = {
    "relative_position": {"hidden_dim": 16},
    "jigsaw": {"num_permutations": 5, "projection_dim": 8, "hidden_dim": 16},
    "simclr": {"hidden_dim": 16, "projection_dim": 8},
    "mae": {"decoder_dim": 32, "decoder_depth": 1},
    "colorization": {"bin_size": 20.0, "decoder_dim": 8},
    "inpainting": {"decoder_dim": 8, "adversarial_weight": 0.1},
    "dino": {
        "num_prototypes": 12,
        "hidden_dim": 16,
        "bottleneck_dim": 8,
        "num_local_crops": 2,
        "freeze_prototypes_fraction": 0.2,
    },
    "moco_v3": {"hidden_dim": 16, "projection_dim": 8},
    "byol": {"hidden_dim": 16, "projection_dim": 8},
    "simsiam": {"projection_dim": 16, "bottleneck_dim": 8},
    "barlow_twins": {"projection_dim": 16},
    "vicreg": {"projection_dim": 16},
    "swav": {
        "num_prototypes": 12,
        "hidden_dim": 16,
        "projection_dim": 8,
        "num_local_crops": 2,
        "queue_length": 17,
        "freeze_prototypes_fraction": 0.2,
    },
    "ijepa": {"predictor_dim": 32, "predictor_depth": 1},
    "ibot": {
        "num_prototypes": 12,
        "hidden_dim": 16,
        "bottleneck_dim": 8,
        "num_local_crops": 2,
        "freeze_prototypes_fraction": 0.2,
    },
    "dinov2": {
        "num_prototypes": 12,
        "hidden_dim": 16,
        "bottleneck_dim": 8,
        "num_local_crops": 2,
        "freeze_prototypes_fraction": 0.2,
    },
    "lejepa": {"num_directions": 16, "hidden_dim": 16, "projection_dim": 8, "num_local_crops": 2},
}


def skip_measurements(patch: pytest.MonkeyPatch, seconds_per_step: float = 0.02) -> None:
    """Let runs take the first option of each choice. They log every second (of steps that take so long)."""

    def select_fastest(module: TrainModule, images: Any, plan: Plan, optim: Optim, *, precisions: Any, **_: Any) -> Any:
        return replace(plan, precision=precisions[0]), {}

    def select_workers(module: TrainModule, images: Any, plan: Plan, optim: Optim, options: Any, **_: Any) -> Any:
        return WorkerChoice(replace(plan, **options[0]._asdict()), seconds_per_step, {})

    patch.setattr(planning, "select_fastest", select_fastest)
    patch.setattr(planning, "select_workers", select_workers)


def quick_head(name: str, steps: int = 4) -> HeadKind:
    """A kind of head whose training takes so few steps."""
    return with_steps(find_head(name), steps)


def make_images(count: int = NUM_IMAGES, side: int = SIDE + 8, seed: int = 0) -> torch.Tensor:
    """Smooth colored noise, N 3 side side uint8: enough to distinguish images and their rotations."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return (fine * 255).to(torch.uint8)


def small_backbone(name: str = "vit", pool: str = "mean", side: int = SIDE, **choices: Any) -> torch.nn.Module:
    """A ViT with embed_dim 16, or whatever ``build_backbone`` makes of the name."""
    if name == "vit":
        token = pool == "class"
        config = ViTConfig(
            embed_dim=16, depth=2, num_heads=2, patch_size=4, size=side, input_spec=INPUTS, pooling=pool,
            class_token=token, **choices,
        )  # fmt: skip
        return ViT(config)
    return build_backbone(name, size=side, input_spec=INPUTS, **choices)


def small_train_module(
    task: str, backbone: str = "vit", seed: int = 0, count: int = NUM_IMAGES, side: int = SIDE, **choices: Any
) -> TrainModule:
    """A train module for one of TASKS, or for a combination of them, that trains within seconds."""
    recipe = find_recipe(task)
    images = make_images(count, side + 8)
    with seeded(seed):
        pool = recipe.pooling if backbone == "vit" else "mean"
        network = small_backbone(backbone, pool, side, **choices)
        pretext_task = small_config(task, recipe.task).build(network, DataInfo(count, 3, lambda n: images[:n], side))
        return TrainModule(network, pretext_task)


def small_config(task: str, config: Any) -> Any:
    """The configuration of a task, or of each task in a combination, with small heads."""
    if isinstance(config, Combined):
        return replace(config, **{name: small_config(name, part) for name, part in config.parts.items()})
    return replace(config, **SMALL_CONFIGS.get(task, {}))


def train(
    task: str, steps: int = 12, accumulate: int = 1, batch: int = 12, precision: str = "float64", backbone: str = "vit",
    drop_path: float = 0.0, run: str | None = None, stop_after: int | None = None, resume: bool = False, seed: int = 0,
    method: Literal["adamw", "muon"] = "adamw", **choices: Any,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Train a small module and return its full weights, which are the same on any number of processes.

    ``choices`` are further fields of the plan.
    """
    module = small_train_module(task, backbone, seed=seed, **({"drop_path": drop_path} if drop_path else {}))
    plan = Plan(steps=steps, batch_size=batch, grad_accum=accumulate, precision=precision, seed=seed, **choices)  # type: ignore[arg-type]
    optim = Optim(method=method, lr=0.02, warmup_fraction=0.1)
    where = Path(run) if run else None
    fit(module, make_images(), plan, optim, run=where, stop_after=stop_after, resume=resume)
    return {name: full_tensor(tensor.detach()).clone() for name, tensor in module.state_dict().items()}


def supervised(accumulate: int = 1, **choices: Any) -> dict[str, torch.Tensor]:
    """Train on labels in float64; the same on any number of processes. ``choices`` are further fields of the plan."""
    with seeded(0):
        backbone = small_backbone()
        task = SupervisedTask(torch.nn.Linear(16, 3), torch.arange(NUM_IMAGES) % 3, SIDE, SupervisedConfig())
    module = TrainModule(backbone, task)
    plan = Plan(steps=8, batch_size=11, grad_accum=accumulate, precision="float64", **choices)
    fit(module, make_images(), plan, Optim(lr=0.02, warmup_fraction=0.1))
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def max_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """The largest difference between two state dicts of the same names."""
    assert first.keys() == second.keys()
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)
