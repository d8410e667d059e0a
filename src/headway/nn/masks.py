"""Where attention may look, and which of its weights a training step drops."""

import torch
from torch import Tensor

from headway.draws import keep_mask


def joined_masks(mask: Tensor | None, padding: Tensor | None) -> Tensor | None:
    """Mask and padding as one: bool, True where a token may look, or floating point where ``mask`` is.

    Args:
        mask: Broadcasts to B h T S, bool or floating point.
        padding: B S, bool, True where nobody looks.

    Raises:
        ValueError: Where ``padding`` is no B S of bool, or ``mask`` holds whole numbers, which might mean either.
    """
    if mask is not None and mask.dtype != torch.bool and not mask.is_floating_point():
        raise ValueError(f"a mask is bool (True: may look) or floating point (added to scores), got {mask.dtype}")
    if padding is None:
        return mask
    if padding.dim() != 2 or padding.dtype != torch.bool:
        given = " ".join(map(str, padding.shape))
        raise ValueError(f"padding is B S of bool (True: never looked at), got {given} of {padding.dtype}")
    hidden = padding[:, None, None]  # B 1 1 S
    if mask is None:
        return ~hidden
    return mask & ~hidden if mask.dtype == torch.bool else mask.masked_fill(hidden, float("-inf"))


def masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Scores B h T S where a mask from ``joined_masks`` leaves them, else minus infinity (or with the mask added)."""
    if mask is None:
        return scores
    return scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask


def thinned(weights: Tensor, dropout: float) -> Tensor:
    """Inverted dropout of attention weights B h T S, by the draws in force; 0 leaves them as they are."""
    if not dropout:
        return weights
    return weights * keep_mask(len(weights), dropout, *weights.shape[1:], device=weights.device).to(weights.dtype)
