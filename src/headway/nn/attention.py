"""Multi-head attention: split, attend in each attention head on its own, concatenate, transform linearly.

Vaswani et al., "Attention is all you need", 2017 (https://arxiv.org/abs/1706.03762):

    attention(Q, K, V) = softmax(Q K^T / sqrt(d)) V          in each of the h attention heads, of width d
    output             = concatenation of the attention heads . W_output + b_output
"""

from typing import Literal, NamedTuple, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from headway.nn.masks import joined_masks, masked, thinned
from headway.nn.rotary import Turns, turn
from headway.nn.shapes import check_inputs, head_width_of

Form = Literal["plain", "fused"]


class Steps(NamedTuple):
    """Every step of one multi-head attention, in order: T tokens look, S tokens are looked at."""

    query: Tensor  # B h T d, what each token looks for
    key: Tensor  # B h S d, what each token can be found by
    value: Tensor  # B h S d, what each token gives to those who look at it
    scores: Tensor  # B h T S, how well query and key agree, masks included
    weights: Tensor  # B h T S, how much of each value is taken: rows sum to 1
    heads: Tensor  # B h T d, what each attention head saw
    joined: Tensor  # B T h*d, the attention heads side by side
    output: Tensor  # B T D


class MultiHeadAttention(nn.Module):
    """Every token looks at every token (or at other tokens, by their keys and values) through several attention heads.

    Attributes:
        form: "plain" takes the steps in sight, "fused" calls torch's kernel, equal up to rounding; which is faster is
            measured, see ``use_form``. Dropout takes the plain form in training.

    Args:
        width: D, of the tokens that look and of the result.
        attention_heads: h; must divide ``width`` unless ``head_width`` is given, or HeadwayError is raised.
        key_width: Width of the tokens that give keys, in cross-attention; None means self-attention.
        value_width: Width of the tokens that give values; None means ``key_width``.
        head_width: d; None means D / h.
        bias: Whether the linear maps add a bias.
        qk_norm: Whether queries and keys are normalised (Dehghani et al. 2023, https://arxiv.org/abs/2302.05442).
        dropout: Chance that a weight is dropped in training; masks come from the draws in force.
    """

    def __init__(
        self, width: int, attention_heads: int, *, key_width: int | None = None, value_width: int | None = None,
        head_width: int | None = None, bias: bool = True, qk_norm: bool = False, dropout: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        self.head_width = head_width_of(width, attention_heads, head_width)
        self.attention_heads, self.dropout, inner = attention_heads, dropout, attention_heads * self.head_width
        self.widths = None if key_width is None else (width, key_width, value_width or key_width)
        self.form: Form = "fused"
        if self.widths is None:
            self.qkv = nn.Linear(width, 3 * inner, bias)  # one product is faster than three
        else:
            self.query, self.key, self.value = (nn.Linear(given, inner, bias) for given in self.widths)
        self.query_norm = nn.LayerNorm(self.head_width, eps=1e-6) if qk_norm else nn.Identity()
        self.key_norm = nn.LayerNorm(self.head_width, eps=1e-6) if qk_norm else nn.Identity()
        self.output = nn.Linear(inner, width, bias)

    def forward(
        self, x: Tensor, key: Tensor | None = None, value: Tensor | None = None, *, mask: Tensor | None = None,
        padding: Tensor | None = None, turns: Turns | None = None,
    ) -> Tensor:  # fmt: skip
        """Look: B T D -> B T D. Raises ValueError for inputs of another shape, naming it.

        Args:
            x: B T D, the tokens that look.
            key: B S key_width, the tokens looked at; None in self-attention, where they are x itself.
            value: B S value_width, what is taken from them; None means ``key``.
            mask: Broadcasts to B h T S: bool, True where a token may look, or floating point, added to the scores.
            padding: B S, bool, True where nobody may look; each token must be left something to look at.
            turns: Rotary positions, of queries and keys alike.
        """
        if self.form == "plain" or (self.dropout and self.training):  # the kernel's dropout would draw its own chance
            return self.steps(x, key, value, mask=mask, padding=padding, turns=turns).output
        queries, keys, values = self._split(x, key, value, turns)  # B h T d, B h S d, B h S d
        heads = F.scaled_dot_product_attention(queries, keys, values, joined_masks(mask, padding))  # B h T d
        return self.output(heads.transpose(1, 2).flatten(2))  # B T h*d -> B T D

    def steps(
        self, x: Tensor, key: Tensor | None = None, value: Tensor | None = None, *, mask: Tensor | None = None,
        padding: Tensor | None = None, turns: Turns | None = None,
    ) -> Steps:  # fmt: skip
        """The same to read: every step with its shape, weights included. Arguments as for ``forward``."""
        queries, keys, values = self._split(x, key, value, turns)  # B h T d, B h S d, B h S d
        scores = (queries * self.head_width**-0.5) @ keys.transpose(-2, -1)  # B h T S
        scores = masked(scores, joined_masks(mask, padding))  # B h T S, minus infinity where nobody may look
        weights = scores.softmax(-1)  # B h T S
        heads = thinned(weights, self.dropout if self.training else 0.0) @ values  # B h T d
        joined = heads.transpose(1, 2).flatten(2)  # B T h*d
        return Steps(queries, keys, values, scores, weights, heads, joined, self.output(joined))

    def _split(self, x: Tensor, key: Tensor | None, value: Tensor | None, turns: Turns | None) -> list[Tensor]:
        check_inputs(self.widths, x, key, value)
        if key is None:
            parts = self.qkv(x).chunk(3, -1)  # B T h*d, three times
        else:
            parts = self.query(x), self.key(key), self.value(key if value is None else value)  # B T h*d, B S h*d twice
        queries, keys, values = (p.unflatten(-1, (self.attention_heads, -1)).transpose(1, 2) for p in parts)  # B h T d
        return [turn(self.query_norm(queries), turns), turn(self.key_norm(keys), turns), values]


def use_form(module: nn.Module, form: Form) -> None:
    """Set the form of every attention in ``module``. Raises ValueError for a form that there isn't."""
    if form not in get_args(Form):
        raise ValueError(f"attention has the forms plain and fused, got {form!r}")
    for part in module.modules():
        if isinstance(part, MultiHeadAttention):
            part.form = form
