"""Gradient reversal: forwards nothing happens, backwards the gradient turns round.

What stands behind it learns to lower the loss, what stands before it to raise it: a game of two in one loss and one
backward pass. Ganin and Lempitsky, "Unsupervised domain adaptation by backpropagation", 2015
(https://arxiv.org/abs/1409.7495).
"""

from typing import Any

import torch
from torch import Tensor


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * -ctx.scale, None


def reverse_gradient(x: Tensor, scale: float = 1.0) -> Tensor:
    """``x`` itself, whose gradient is multiplied by -``scale`` (0 or more) on its way back."""
    return _Reverse.apply(x, scale)
