"""A pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x)).

Dosovitskiy et al., "An image is worth 16x16 words", 2021 (https://arxiv.org/abs/2010.11929); layer scale from Touvron
et al., "Going deeper with image transformers", 2021 (https://arxiv.org/abs/2103.17239); drop-path from Huang et al.,
"Deep networks with stochastic depth", 2016 (https://arxiv.org/abs/1603.09382).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.nn.attention import MultiHeadAttention
from headway.nn.rotary import Rope


class Mlp(nn.Module):
    """Two linear maps with a GELU between them, applied to each token separately: B T D -> B T D.

    Args:
        embed_dim: D.
        hidden_dim: M, width between the two maps.
    """

    def __init__(self, embed_dim: int, hidden_dim: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(embed_dim, hidden_dim), nn.Linear(hidden_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """B T D -> B T D."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention, then an MLP; each reads normalized tokens, and its output is added to the tokens.

    Args:
        embed_dim: D.
        num_heads: h; must divide ``embed_dim``.
        mlp_ratio: M / D.
        layer_scale: Initial value of the learned scale of each branch; None means no scale.
        qk_norm: Whether queries and keys are normalized.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        layer_scale: float | None = None,
        qk_norm: bool = False,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.attention = MultiHeadAttention(embed_dim, num_heads, qk_norm=qk_norm)
        self.norm2 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.mlp = Mlp(embed_dim, round(mlp_ratio * embed_dim))
        self.attention_gamma = None if layer_scale is None else nn.Parameter(torch.full((embed_dim,), layer_scale))
        self.mlp_gamma = None if layer_scale is None else nn.Parameter(torch.full((embed_dim,), layer_scale))

    def forward(
        self, x: Tensor, drop_path_scales: tuple[Tensor, Tensor] | None = None, rope: Rope | None = None
    ) -> Tensor:
        """B T D -> B T D.

        Args:
            x: Tokens.
            drop_path_scales: Drop-path factors (B,) of the two branches, each 0 or 1 / (1 - rate). They are drawn
                outside of the block, so that the block is a pure function and can be compiled.
            rope: Rotary position embedding of the tokens.
        """
        scale1, scale2 = (None, None) if drop_path_scales is None else drop_path_scales
        x = x + _scale_branch(self.attention(self.norm1(x), rope=rope), self.attention_gamma, scale1)
        return x + _scale_branch(self.mlp(self.norm2(x)), self.mlp_gamma, scale2)


def _scale_branch(branch: Tensor, gamma: Tensor | None, drop_path_scale: Tensor | None) -> Tensor:
    """Multiply a branch by its learned scale (D) and its drop-path factor (B), where given: B T D."""
    branch = branch if gamma is None else branch * gamma
    return branch if drop_path_scale is None else branch * drop_path_scale.to(branch.dtype)[:, None, None]
