"""Helpers of multi-head attention: checks of shapes, masks, and dropout of attention weights."""

import torch
from torch import Tensor

from headway.errors import HeadwayError
from headway.rng import dropout_mask


def resolve_head_dim(embed_dim: int, num_heads: int, head_dim: int | None = None) -> int:
    """Return d, the width of one attention head: ``head_dim`` where given, else D / h.

    Raises:
        HeadwayError: A count or width is below 1, or ``num_heads`` does not divide ``embed_dim``.
    """
    if head_dim is not None:
        if num_heads < 1 or head_dim < 1:
            raise HeadwayError(
                "value-out-of-range", f"{num_heads} attention heads of width {head_dim}: both must be 1 or more"
            )
        return head_dim
    if num_heads < 1 or embed_dim % num_heads:
        raise HeadwayError(
            "value-out-of-range",
            f"embed_dim {embed_dim} is not divisible by {num_heads} attention heads; the nearest counts that "
            f"divide it are {', '.join(map(str, nearest_divisors(embed_dim, num_heads)))}",
        )
    return embed_dim // num_heads


def nearest_divisors(embed_dim: int, count: int) -> list[int]:
    """Return the three divisors of ``embed_dim`` nearest to ``count``, ascending; of two equally near, the larger."""
    divisors = [n for n in range(1, embed_dim + 1) if embed_dim % n == 0]
    return sorted(sorted(divisors, key=lambda n: (abs(n - count), -n))[:3])


def check_attention_inputs(
    input_dims: tuple[int, int, int] | None, x: Tensor, key: Tensor | None, value: Tensor | None
) -> None:
    """Raise ValueError unless the inputs fit the kind of attention, its widths, and one another.

    Args:
        input_dims: Widths of queries, keys and values in cross-attention; None in self-attention.
        x: B T D.
        key: B S key_dim, or None.
        value: B S value_dim, or None.
    """
    if x.dim() != 3:
        raise ValueError(f"the query tokens must be B T D, got {_format_shape(x)}")
    if input_dims is None:
        if key is not None or value is not None:
            raise ValueError("self-attention takes no keys or values; give key_dim to make cross-attention")
        return
    if key is None:
        raise ValueError("cross-attention (made with key_dim) needs keys, and none were given")
    value = key if value is None else value
    for name, tokens, width in zip(("x", "key", "value"), (x, key, value), input_dims, strict=True):
        if tokens.dim() != 3 or tokens.shape[-1] != width or tokens.shape[0] != x.shape[0]:
            letter = "T" if name == "x" else "S"
            raise ValueError(f"{name} must be B {letter} D = {len(x)} {letter} {width}, got {_format_shape(tokens)}")
    if value.shape[1] != key.shape[1]:
        raise ValueError(f"each key needs a value: got {key.shape[1]} keys and {value.shape[1]} values")


def combine_masks(attn_mask: Tensor | None, key_padding_mask: Tensor | None) -> Tensor | None:
    """Combine both masks into one: bool (True: the query attends to the key), or floating point where ``attn_mask`` is.

    Args:
        attn_mask: Broadcasts to B h T S; bool or floating point.
        key_padding_mask: B S, bool; True where no query attends to the key.

    Raises:
        ValueError: ``key_padding_mask`` is not B S of bool, or ``attn_mask`` holds integers, which are ambiguous.
    """
    if attn_mask is not None and attn_mask.dtype != torch.bool and not attn_mask.is_floating_point():
        raise ValueError(f"attn_mask is bool (True: attend) or floating point (added to scores), got {attn_mask.dtype}")
    if key_padding_mask is None:
        return attn_mask
    if key_padding_mask.dim() != 2 or key_padding_mask.dtype != torch.bool:
        given = f"{_format_shape(key_padding_mask)} of {key_padding_mask.dtype}"
        raise ValueError(f"key_padding_mask is B S of bool (True: not attended to), got {given}")
    padded = key_padding_mask[:, None, None]  # B 1 1 S
    if attn_mask is None:
        return ~padded
    return attn_mask & ~padded if attn_mask.dtype == torch.bool else attn_mask.masked_fill(padded, float("-inf"))


def apply_attn_mask(scores: Tensor, attn_mask: Tensor | None) -> Tensor:
    """Apply a mask of ``combine_masks`` to scores B h T S: minus infinity where a bool mask is False, else a sum."""
    if attn_mask is None:
        return scores
    return scores.masked_fill(~attn_mask, float("-inf")) if attn_mask.dtype == torch.bool else scores + attn_mask


def attention_dropout(weights: Tensor, dropout: float) -> Tensor:
    """Apply inverted dropout to attention weights B h T S; the mask comes from the active rng. 0 changes nothing."""
    if not dropout:
        return weights
    mask = dropout_mask("attention", len(weights), dropout, *weights.shape[1:], device=weights.device)  # B h T S
    return weights * mask.to(weights.dtype)


def _format_shape(tensor: Tensor) -> str:
    return " ".join(map(str, tensor.shape))
