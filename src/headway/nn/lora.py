"""Low-rank adaptation: weights stand still, and a product of two thin matrices is learned beside each.

Hu et al., "LoRA: low-rank adaptation of large language models", 2021 (https://arxiv.org/abs/2106.09685):

    y = x W^T + b + (alpha / r) (x A^T) B^T        A: r D_in, random;  B: D_out r, zero: training starts from W itself

Afterwards W + (alpha / r) B A is one matrix again, and costs no more than W did.
"""

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.errors import HeadwayError

ATTENTION = r"att(entio)?n"
"""Which linear maps are adapted: those of attention, as in the paper."""


class LowRank(nn.Module):
    """A linear map that stands still, and what is learned beside it.

    Args:
        base: The map; none of its numbers changes.
        rank: r.
        alpha: What is learned counts alpha / r.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float):
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        self.a = nn.Parameter(torch.empty(rank, base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        """D_out D_in: W + (alpha / r) B A, for whoever multiplies by the weight himself."""
        return self.base.weight + self.scale * (self.b @ self.a)

    @property
    def bias(self) -> Tensor | None:
        """D_out: the base's."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """... D_in -> ... D_out."""
        return self.base(x) + self.scale * F.linear(F.linear(x, self.a), self.b)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear map that does the same."""
        linear = nn.Linear(self.base.in_features, self.base.out_features, self.base.bias is not None)
        linear.to(self.base.weight).load_state_dict({**self.base.state_dict(), "weight": self.weight})
        return linear


def adapt(network: nn.Module, rank: int = 8, alpha: float = 16.0, pattern: str = ATTENTION) -> list[str]:
    """Freeze a network, in place, and put a ``LowRank`` around its linear maps.

    Args:
        network: Any; its linear maps are found by name, whoever wrote it.
        rank: r, 1 or more.
        alpha: See above.
        pattern: Regular expression, searched in the map's name; where no name has it, every linear map is adapted.

    Returns:
        The names of the maps that were adapted.

    Raises:
        HeadwayError: A rank below 1, or a network without linear maps.
    """
    if rank < 1:
        raise HeadwayError(f"the rank of LoRA must be 1 or more, got {rank}")
    network.requires_grad_(False)
    linears = {name: part for name, part in network.named_modules() if isinstance(part, nn.Linear)}
    chosen = [name for name in linears if re.search(pattern, name)] or list(linears)
    if not chosen:
        kind = getattr(network, "name", type(network).__name__)
        raise HeadwayError(f"{kind} has no linear maps for LoRA to adapt; take head finetune, or a ViT")
    for name in chosen:
        _put(network, name, LowRank(linears[name], rank, alpha))
    return chosen


def merge(network: nn.Module) -> nn.Module:
    """Undo ``adapt``, in place: every adapted map becomes one linear map that has learned what was learned."""
    for name, part in [(n, p) for n, p in network.named_modules() if isinstance(p, LowRank)]:
        _put(network, name, part.merged())
    return network.requires_grad_(True)


def _put(network: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, part)
