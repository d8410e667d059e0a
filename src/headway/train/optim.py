"""AdamW or Muon with rules by parameter name, and rates that are functions of the clock."""

import re
from typing import Any

import torch
from torch import nn

from headway.config import Optim
from headway.protocol import Clock
from headway.schedule import cosine, warmup_cosine
from headway.train.cut import held_like
from headway.train.muon import Muon, fits


def make_optimizer(module: nn.Module, optim: Optim, *, half: bool = False) -> torch.optim.AdamW:
    """AdamW (fused), or Muon, over every trainable parameter, grouped by the settings that the rules give it.

    A group remembers its factors as ``rate`` and ``decay``; ``set_rates`` turns them into numbers each step. Muon moves
    the matrices and kernels that no rule keeps from it, ``half`` tells how (see ``muon.polar``); AdamW the rest.
    """
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            rule = next((rule for rule in optim.rules if re.search(rule.pattern, name)), None)
            orthogonal = optim.method == "muon" and (rule is None or rule.orthogonal) and fits(parameter)
            factors = (rule.rate, rule.decay) if rule else (1.0, 1.0)
            groups.setdefault((*factors, orthogonal), []).append(parameter)
    arguments: list[dict[str, Any]] = [
        {"params": parameters, "rate": rate, "decay": decay, "orthogonal": orthogonal}
        for (rate, decay, orthogonal), parameters in groups.items()
    ]
    for group in arguments:
        group |= {"momentum": optim.momentum, "half": half}
    kind = Muon if optim.method == "muon" else torch.optim.AdamW
    return kind(arguments, lr=optim.lr, betas=optim.betas, fused=True)


def rate_at(optim: Optim, batch: int, clock: Clock) -> float:
    """The learning rate of the step that the clock stands before, to which rules add their factors."""
    return optim.peak(batch) * warmup_cosine((clock.step + 1) / (clock.total + 1), optim.warmup, optim.final)


def set_rates(optimizer: torch.optim.Optimizer, optim: Optim, batch: int, clock: Clock) -> None:
    """Set every group's learning rate and decay for this step."""
    rate, decay = rate_at(optim, batch, clock), optim.weight_decay
    if optim.final_decay is not None:
        decay = cosine(clock.progress, decay, optim.final_decay)
    for group in optimizer.param_groups:
        group["lr"], group["weight_decay"] = rate * group["rate"], decay * group["decay"]


def state_by_name(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's tensors as ``moment/parameter`` -> tensor, which no parameter order can confuse."""
    state = optimizer.state
    return {
        f"{moment}/{name}": value
        for name, parameter in module.named_parameters()
        if parameter in state
        for moment, value in state[parameter].items()
    }


def load_state_by_name(module: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Undo ``state_by_name``; where FSDP2 has cut a parameter, its moments are cut alike."""
    parameters = dict(module.named_parameters())
    for key, value in tensors.items():
        moment, _, name = key.partition("/")
        parameter = parameters[name]
        if moment == "step":  # fused AdamW keeps its count in float32
            optimizer.state[parameter][moment] = value.to(parameter.device).clone()
        else:
            optimizer.state[parameter][moment] = held_like(value.to(parameter.dtype), parameter).clone()
