"""Multi-head attention: project, attend in every attention head separately, concatenate, project back.

Vaswani et al., "Attention is all you need", 2017 (https://arxiv.org/abs/1706.03762):

    attention(Q, K, V) = softmax(Q K^T / sqrt(d)) V          in each of the h attention heads, of width d
    output             = concatenation of the attention heads . W_output + b_output
"""

from typing import Literal, NamedTuple, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from headway.nn.attention_utils import (
    apply_attn_mask,
    attention_dropout,
    check_attention_inputs,
    combine_masks,
    resolve_head_dim,
)
from headway.nn.rotary import Rope, apply_rope

AttentionImpl = Literal["manual", "sdpa"]


class AttentionTrace(NamedTuple):
    """Every intermediate result of one multi-head attention, in order; T query tokens attend to S key tokens."""

    query: Tensor  # B h T d
    key: Tensor  # B h S d
    value: Tensor  # B h S d
    scores: Tensor  # B h T S, scaled products of query and key, masks applied
    weights: Tensor  # B h T S, softmax of the scores: rows sum to 1
    head_outputs: Tensor  # B h T d, weighted sums of the values
    concatenated: Tensor  # B T h*d, the outputs of all attention heads side by side
    output: Tensor  # B T D


class MultiHeadAttention(nn.Module):
    """Self-attention, or cross-attention where ``key_dim`` is given, with several attention heads.

    Attributes:
        impl: "manual" computes every step in Python, "sdpa" calls torch's fused kernel; both agree up to rounding.
            The faster one is measured, see ``set_attention_impl``. Training with dropout always takes "manual".

    Args:
        embed_dim: D, width of the query tokens and of the output.
        num_heads: h; must divide ``embed_dim`` unless ``head_dim`` is given, else HeadwayError is raised.
        key_dim: Width of the key tokens in cross-attention; None means self-attention.
        value_dim: Width of the value tokens; None means ``key_dim``.
        head_dim: d; None means D / h.
        bias: Whether the linear maps have a bias.
        qk_norm: Whether queries and keys are normalized (Dehghani et al. 2023, https://arxiv.org/abs/2302.05442).
        dropout: Probability that an attention weight is dropped in training; masks come from the active rng.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, *, key_dim: int | None = None, value_dim: int | None = None,
        head_dim: int | None = None, bias: bool = True, qk_norm: bool = False, dropout: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        self.head_dim = resolve_head_dim(embed_dim, num_heads, head_dim)
        self.num_heads, self.dropout, inner_dim = num_heads, dropout, num_heads * self.head_dim
        self.input_dims = None if key_dim is None else (embed_dim, key_dim, value_dim or key_dim)
        self.impl: AttentionImpl = "sdpa"
        if self.input_dims is None:
            self.qkv = nn.Linear(embed_dim, 3 * inner_dim, bias)  # one product is faster than three
        else:
            self.query, self.key, self.value = (nn.Linear(dim, inner_dim, bias) for dim in self.input_dims)
        self.query_norm = nn.LayerNorm(self.head_dim, eps=1e-6) if qk_norm else nn.Identity()
        self.key_norm = nn.LayerNorm(self.head_dim, eps=1e-6) if qk_norm else nn.Identity()
        self.output = nn.Linear(inner_dim, embed_dim, bias)

    def forward(
        self, x: Tensor, key: Tensor | None = None, value: Tensor | None = None, *, attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None, rope: Rope | None = None,
    ) -> Tensor:  # fmt: skip
        """Attend: B T D -> B T D. Raises ValueError where an input has another shape.

        Args:
            x: B T D, the query tokens; in self-attention also keys and values.
            key: B S key_dim, the key tokens of cross-attention; None in self-attention.
            value: B S value_dim, the value tokens; None means ``key``.
            attn_mask: Broadcasts to B h T S: bool (True: the query attends to the key), or floating point, which is
                added to the scores.
            key_padding_mask: B S, bool; True where no query attends to the key. Each query needs at least one key.
            rope: Rotary position embedding of queries and keys.
        """
        if self.impl == "manual" or (self.dropout and self.training):  # the kernel's dropout is not seeded by our rng
            return self.trace(x, key, value, attn_mask=attn_mask, key_padding_mask=key_padding_mask, rope=rope).output
        queries, keys, values = self._project_and_split(x, key, value, rope)  # B h T d, B h S d, B h S d
        mask = combine_masks(attn_mask, key_padding_mask)
        heads = F.scaled_dot_product_attention(queries, keys, values, mask)  # B h T d
        return self.output(heads.transpose(1, 2).flatten(2))  # B T h*d -> B T D

    def trace(
        self, x: Tensor, key: Tensor | None = None, value: Tensor | None = None, *, attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None, rope: Rope | None = None,
    ) -> AttentionTrace:  # fmt: skip
        """Attend and return every intermediate result, attention weights included. Arguments as for ``forward``."""
        queries, keys, values = self._project_and_split(x, key, value, rope)  # B h T d, B h S d, B h S d
        scores = (queries * self.head_dim**-0.5) @ keys.transpose(-2, -1)  # B h T S
        scores = apply_attn_mask(scores, combine_masks(attn_mask, key_padding_mask))  # B h T S
        weights = scores.softmax(-1)  # B h T S
        heads = attention_dropout(weights, self.dropout if self.training else 0.0) @ values  # B h T d
        concatenated = heads.transpose(1, 2).flatten(2)  # B T h*d
        return AttentionTrace(queries, keys, values, scores, weights, heads, concatenated, self.output(concatenated))

    def _project_and_split(
        self, x: Tensor, key: Tensor | None, value: Tensor | None, rope: Rope | None
    ) -> list[Tensor]:
        check_attention_inputs(self.input_dims, x, key, value)
        if key is None:
            parts = self.qkv(x).chunk(3, -1)  # B T h*d, three times
        else:
            parts = self.query(x), self.key(key), self.value(key if value is None else value)  # B T h*d, B S h*d twice
        queries, keys, values = (p.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for p in parts)  # B h T d
        return [apply_rope(self.query_norm(queries), rope), apply_rope(self.key_norm(keys), rope), values]


def set_attention_impl(module: nn.Module, impl: AttentionImpl) -> None:
    """Set the implementation of every attention in ``module``. Raises ValueError for an unknown one."""
    if impl not in get_args(AttentionImpl):
        raise ValueError(f"attention has the implementations manual and sdpa, got {impl!r}")
    for part in module.modules():
        if isinstance(part, MultiHeadAttention):
            part.impl = impl
