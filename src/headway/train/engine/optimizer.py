"""AdamW or Muon with rules by parameter name; learning rate and weight decay are functions of the clock."""

import re
from typing import Any

import torch
from torch import nn

from headway.config import Optim
from headway.protocol import TrainingClock
from headway.schedule import cosine, warmup_cosine
from headway.train.engine.fabric import shard_like
from headway.train.engine.muon import Muon, can_orthogonalize


def make_optimizer(module: nn.Module, optim: Optim, *, use_bf16: bool = False) -> torch.optim.AdamW:
    """AdamW (fused), or Muon, over every trainable parameter, grouped by the settings that the rules give it.

    A group keeps its factors as ``lr_scale`` and ``wd_scale``; ``set_lr_and_weight_decay`` applies them at each step.
    Muon updates the matrices and convolution kernels that no rule exempts; AdamW updates the rest.

    Args:
        module: Whose parameters are trained.
        optim: The optimizer's settings.
        use_bf16: Whether Muon orthogonalizes in bfloat16 (see ``muon.orthogonalize``).
    """
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            rule = next((rule for rule in optim.rules if re.search(rule.pattern, name)), None)
            orthogonal = optim.method == "muon" and (rule is None or rule.orthogonal) and can_orthogonalize(parameter)
            factors = (rule.lr_scale, rule.wd_scale) if rule else (1.0, 1.0)
            groups.setdefault((*factors, orthogonal), []).append(parameter)
    arguments: list[dict[str, Any]] = [
        {"params": parameters, "lr_scale": lr_scale, "wd_scale": wd_scale, "orthogonal": orthogonal}
        for (lr_scale, wd_scale, orthogonal), parameters in groups.items()
    ]
    for group in arguments:
        group |= {"momentum": optim.momentum, "use_bf16": use_bf16}
    kind = Muon if optim.method == "muon" else torch.optim.AdamW
    return kind(arguments, lr=optim.lr, betas=optim.betas, fused=True)


def lr_at(optim: Optim, batch_size: int, clock: TrainingClock) -> float:
    """Learning rate of the next step, before the factors of the rules."""
    return optim.peak_lr(batch_size) * warmup_cosine(
        (clock.step + 1) / (clock.total_steps + 1), optim.warmup_fraction, optim.min_lr_ratio
    )


def set_lr_and_weight_decay(
    optimizer: torch.optim.Optimizer, optim: Optim, batch_size: int, clock: TrainingClock
) -> None:
    """Set each group's learning rate and weight decay for the next step."""
    lr, weight_decay = lr_at(optim, batch_size, clock), optim.weight_decay
    if optim.final_weight_decay is not None:
        weight_decay = cosine(clock.progress, weight_decay, optim.final_weight_decay)
    for group in optimizer.param_groups:
        group["lr"], group["weight_decay"] = lr * group["lr_scale"], weight_decay * group["wd_scale"]


def state_by_name(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's tensors as ``moment/parameter`` -> tensor, which does not depend on the order of parameters."""
    state = optimizer.state
    return {
        f"{moment}/{name}": value
        for name, parameter in module.named_parameters()
        if parameter in state
        for moment, value in state[parameter].items()
    }


def load_state_by_name(module: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Load what ``state_by_name`` gave; where FSDP2 has sharded a parameter, its moments are sharded alike."""
    parameters = dict(module.named_parameters())
    for key, value in tensors.items():
        moment, _, name = key.partition("/")
        parameter = parameters[name]
        if moment == "step":  # fused AdamW keeps its step count in float32
            optimizer.state[parameter][moment] = value.to(parameter.device).clone()
        else:
            optimizer.state[parameter][moment] = shard_like(value.to(parameter.dtype), parameter).clone()
