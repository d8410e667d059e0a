"""Low-rank adaptation (LoRA): weights are frozen, and a product of two thin matrices is learned beside each.

Hu et al., "LoRA: low-rank adaptation of large language models", 2021 (https://arxiv.org/abs/2106.09685):

    y = x W^T + b + (alpha / r) (x A^T) B^T        A: r D_in, random;  B: D_out r, zero: training starts from W

After training W + (alpha / r) B A is merged into one matrix, which costs no more than W.
"""

import math
import re
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.errors import HeadwayError
from headway.protocol import Backbone

NetworkT = TypeVar("NetworkT", bound=nn.Module)
ATTENTION_PATTERN = r"att(entio)?n"
"""Pattern of the names of adapted linear maps: those of attention, as in the paper."""


class LoRALinear(nn.Module):
    """A frozen linear map and its learned low-rank update.

    Args:
        base: The linear map; it is frozen.
        lora_rank: r.
        alpha: The update is scaled by alpha / r.
    """

    def __init__(self, base: nn.Linear, lora_rank: int, alpha: float):
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), alpha / lora_rank
        self.lora_a = nn.Parameter(torch.empty(lora_rank, base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, lora_rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        """D_out D_in: W + (alpha / r) B A, for code that uses the weight instead of calling the module."""
        return self.base.weight + self.scale * (self.lora_b @ self.lora_a)

    @property
    def bias(self) -> Tensor | None:
        """D_out: the bias of the base."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """... D_in -> ... D_out."""
        return self.base(x) + self.scale * F.linear(F.linear(x, self.lora_a), self.lora_b)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return one linear map that computes the same."""
        linear = nn.Linear(self.base.in_features, self.base.out_features, self.base.bias is not None)
        linear.to(self.base.weight).load_state_dict({**self.base.state_dict(), "weight": self.weight})
        return linear


def add_lora(
    network: nn.Module, lora_rank: int = 8, alpha: float = 16.0, pattern: str = ATTENTION_PATTERN
) -> list[str]:
    """Freeze a network in place and replace its linear maps by ``LoRALinear``.

    Args:
        network: Any network; its linear maps are found by name.
        lora_rank: r, 1 or more.
        alpha: The updates are scaled by alpha / r.
        pattern: Regular expression, searched in the names of linear maps; if none matches, all maps are adapted.

    Returns:
        The names of the adapted maps.

    Raises:
        HeadwayError: The rank is below 1, or the network has no linear maps.
    """
    if lora_rank < 1:
        raise HeadwayError("value-out-of-range", f"the rank of LoRA must be 1 or more, got {lora_rank}")
    network.requires_grad_(False)
    linears = {name: part for name, part in network.named_modules() if isinstance(part, nn.Linear)}
    adapted = [name for name in linears if re.search(pattern, name)] or list(linears)
    if not adapted:
        kind = network.name if isinstance(network, Backbone) else type(network).__name__
        raise HeadwayError(
            "backbone-unsupported", f"{kind} has no linear maps for LoRA to adapt; take the head finetune, or a ViT"
        )
    for name in adapted:
        _set_submodule(network, name, LoRALinear(linears[name], lora_rank, alpha))
    return adapted


def merge_lora(network: NetworkT) -> NetworkT:
    """Merge every ``LoRALinear`` into one linear map, in place, and let all parameters be trained again."""
    for name, part in [(n, p) for n, p in network.named_modules() if isinstance(p, LoRALinear)]:
        _set_submodule(network, name, part.merged())
    return network.requires_grad_(True)


def _set_submodule(network: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, part)
