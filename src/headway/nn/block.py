"""A transformer block with normalisation first: x + attention(norm(x)), then x + mlp(norm(x)).

Dosovitskiy et al., "An image is worth 16x16 words", 2021 (https://arxiv.org/abs/2010.11929); layer scale from Touvron
et al., "Going deeper with image transformers", 2021 (https://arxiv.org/abs/2103.17239); drop-path from Huang et al.,
"Deep networks with stochastic depth", 2016 (https://arxiv.org/abs/1603.09382).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.nn.attention import MultiHeadAttention
from headway.nn.rotary import Turns


class Mlp(nn.Module):
    """Two linear maps with a GELU between them, on each token alone: B T D -> B T D.

    Args:
        width: D.
        hidden: M, between the maps.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """B T D -> B T D."""
        return self.narrow(F.gelu(self.widen(x)))


class Block(nn.Module):
    """Attention, then MLP, each on normalised tokens and added to them.

    Args:
        width: D.
        attention_heads: h; must divide ``width``.
        mlp_ratio: M / D.
        layer_scale: Where the learned scale of each branch starts; None means no scale.
        qk_norm: Whether queries and keys are normalised.
    """

    def __init__(
        self,
        width: int,
        attention_heads: int,
        mlp_ratio: float = 4.0,
        layer_scale: float | None = None,
        qk_norm: bool = False,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = MultiHeadAttention(width, attention_heads, qk_norm=qk_norm)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, round(mlp_ratio * width))
        self.attention_gamma = None if layer_scale is None else nn.Parameter(torch.full((width,), layer_scale))
        self.mlp_gamma = None if layer_scale is None else nn.Parameter(torch.full((width,), layer_scale))

    def forward(self, x: Tensor, drop: tuple[Tensor, Tensor] | None = None, turns: Turns | None = None) -> Tensor:
        """B T D -> B T D.

        Args:
            x: Tokens.
            drop: Drop-path factors (B,) of the two branches, 0 or 1 / (1 - rate). They are drawn outside, so that a
                block is a pure function and can be compiled.
            turns: Rotary positions of the tokens.
        """
        drop1, drop2 = (None, None) if drop is None else drop
        x = x + _scaled(self.attention(self.norm1(x), turns=turns), self.attention_gamma, drop1)
        return x + _scaled(self.mlp(self.norm2(x)), self.mlp_gamma, drop2)


def _scaled(branch: Tensor, gamma: Tensor | None, drop: Tensor | None) -> Tensor:
    """The branch, times its learned scale (D) and its drop-path factor (B), where there are any: B T D."""
    branch = branch if gamma is None else branch * gamma
    return branch if drop is None else branch * drop.to(branch.dtype)[:, None, None]
