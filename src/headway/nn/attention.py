"""Multi-head attention: split, attend in each attention head on its own, concatenate, transform linearly.

Vaswani et al., "Attention is all you need", 2017 (https://arxiv.org/abs/1706.03762):

    attention(Q, K, V) = softmax(Q K^T / sqrt(d)) V          in each of the h attention heads, of width d = D / h
    output             = concatenation of the attention heads . W_output
"""

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from headway.errors import HeadwayError

Form = Literal["plain", "fused"]


class MultiHeadAttention(nn.Module):
    """Every token looks at every token (or at the tokens of a context) through several attention heads.

    Attributes:
        form: "plain" multiplies matrices in sight, "fused" calls torch's kernel; equal up to rounding. Which is faster
            depends on shape, dtype and device: measure, then ``use_form``.

    Args:
        width: D, of the tokens that look.
        attention_heads: h; must divide ``width``.
        bias: Whether the linear maps add a bias.
        context_width: Width of the tokens looked at, where these are not x itself (cross-attention).

    Raises:
        HeadwayError: Where ``attention_heads`` doesn't divide ``width``.
    """

    def __init__(self, width: int, attention_heads: int, *, bias: bool = True, context_width: int | None = None):
        super().__init__()
        if attention_heads < 1 or width % attention_heads:
            raise HeadwayError(
                f"embed_dim {width} is not divisible by {attention_heads} attention heads; the nearest counts that "
                f"divide it are {', '.join(map(str, nearest_divisors(width, attention_heads)))}"
            )
        self.attention_heads, self.context_width = attention_heads, context_width
        self.form: Form = "fused"
        if context_width is None:
            self.qkv = nn.Linear(width, 3 * width, bias)
        else:
            self.query = nn.Linear(width, width, bias)
            self.key_value = nn.Linear(context_width, 2 * width, bias)
        self.output = nn.Linear(width, width, bias)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Look.

        Args:
            x: B T D, the tokens that look.
            context: B S context_width, the tokens looked at; None means x itself.
            mask: Anything that broadcasts to B h T S: bool, True where a token may look (each must see one at least),
                or floating point, added to the scores.

        Returns:
            B T D.

        Raises:
            ValueError: Where a context is given to self-attention, or none to cross-attention.
        """
        query, key, value = self._split(x, context)  # B h T d, B h S d, B h S d
        if self.form == "fused":
            heads = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)  # B h T d
        else:
            heads = attention_weights(query, key, mask) @ value  # B h T d
        joined = heads.transpose(1, 2).flatten(2)  # B T h*d
        return self.output(joined)

    def weights(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """B h T S: how much each token looks at each other, rows summing to 1. Arguments as for ``forward``."""
        query, key, _ = self._split(x, context)
        return attention_weights(query, key, mask)

    def _split(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries B h T d, keys B h S d and values B h S d of every attention head."""
        if (context is None) != (self.context_width is None):
            given, made = ("no context", "cross") if context is None else ("a context", "self")
            raise ValueError(f"{given} was given to attention made for {made}-attention; see context_width")
        split = (self.attention_heads, -1)
        if context is None:
            query, key, value = self.qkv(x).unflatten(-1, (3, *split)).unbind(2)  # B T h d, three times
        else:
            query = self.query(x).unflatten(-1, split)  # B T h d
            key, value = self.key_value(context).unflatten(-1, (2, *split)).unbind(2)  # B S h d, twice
        return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)  # B h T d


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(d)): B h T d and B h S d -> B h T S."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)  # B h T S
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if not mask.is_floating_point() else scores + mask
    return scores.softmax(dim=-1)


def use_form(module: nn.Module, form: Form) -> None:
    """Set the form of every attention in ``module``. Raises ValueError for a form that there isn't."""
    if form not in get_args(Form):
        raise ValueError(f"attention has the forms plain and fused, got {form!r}")
    for part in module.modules():
        if isinstance(part, MultiHeadAttention):
            part.form = form


def nearest_divisors(width: int, count: int) -> list[int]:
    """The three divisors of ``width`` nearest to ``count``, ascending; the larger where two are equally near."""
    divisors = [n for n in range(1, width + 1) if width % n == 0]
    return sorted(sorted(divisors, key=lambda n: (abs(n - count), -n))[:3])
