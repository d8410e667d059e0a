"""The small transformer with which MAE and I-JEPA predict masked patches from visible ones.

It is dropped after pretraining. It is much smaller than the backbone, so that the backbone must learn the features.
"""

from typing import Any

import torch
from torch import Tensor, nn

from headway.backbones.pos_embed import sincos_pos_embed
from headway.errors import HeadwayError
from headway.nn.block import Block
from headway.nn.numerics import at_least_fp32

HEAD_DIM = 32
"""Dimension of an attention head."""


def check_embed_dim(config: Any, name: str) -> None:
    """Raise HeadwayError unless the field ``name`` of ``config`` is a multiple of HEAD_DIM."""
    dim = getattr(config, name)
    low = dim // HEAD_DIM * HEAD_DIM
    if low != dim:
        near = " or ".join(str(valid) for valid in (low, low + HEAD_DIM) if valid)
        task = type(config).__module__.rpartition(".")[2]
        raise HeadwayError(
            "value-out-of-range", f"{task} {name} must be whole attention heads of {HEAD_DIM}; got {dim}, take {near}"
        )


class PredictorTransformer(nn.Module):
    """A small transformer over a grid of patches with sine-cosine position embeddings.

    Args:
        in_dim: D, of the context tokens.
        out_dim: E, of the predictions.
        grid: Rows and columns of patches.
        embed_dim: W, its own embedding dimension. 0: half of D, in whole attention heads.
        depth: Number of blocks.
    """

    def __init__(self, in_dim: int, out_dim: int, grid: tuple[int, int], embed_dim: int, depth: int):
        super().__init__()
        embed_dim = embed_dim or max(in_dim // 2 // HEAD_DIM, 1) * HEAD_DIM
        self.input_proj = nn.Linear(in_dim, embed_dim)
        self.mask_token = nn.Parameter(torch.randn(embed_dim) * 0.02)
        self.blocks = nn.ModuleList(Block(embed_dim, embed_dim // HEAD_DIM) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim)
        self.output_proj = nn.Linear(embed_dim, out_dim)
        self.pos_embed = nn.Buffer(sincos_pos_embed(*grid, embed_dim).flatten(0, 1), persistent=False)  # N W

    def forward(self, context_tokens: Tensor, context_indices: Tensor, target_indices: Tensor) -> Tensor:
        """Predictions at the target positions, computed separately for each group of targets.

        Args:
            context_tokens: B K D.
            context_indices: B K, int64: the patches of the context tokens.
            target_indices: B M T, int64: M groups of patches.

        Returns:
            B M T E, float32 or wider.
        """
        b, m, t = target_indices.shape
        context_tokens = self.input_proj(context_tokens)  # B K W
        pos_embed = self.pos_embed.to(context_tokens.dtype)  # N W
        context_tokens = (context_tokens + pos_embed[context_indices]).repeat_interleave(m, 0)  # B*M K W
        queries = self.mask_token.to(context_tokens.dtype) + pos_embed[target_indices.flatten(0, 1)]  # B*M T W
        tokens = torch.cat([context_tokens, queries], 1)  # B*M K+T W
        for block in self.blocks:
            tokens = block(tokens)
        return at_least_fp32(self.output_proj(self.norm(tokens[:, -t:]))).unflatten(0, (b, m))  # B M T E


def gather_tokens(tokens: Tensor, indices: Tensor) -> Tensor:
    """The tokens (B N E) at each group's indices (B M T): B M T E."""
    index = indices.flatten(1)[..., None].expand(-1, -1, tokens.shape[-1])  # B M*T E
    return tokens.gather(1, index).unflatten(1, indices.shape[1:])  # B M T E
