"""Muon: a matrix is updated along its momentum, whose singular values are all made about 1.

For a weight W of r rows and c columns (a convolution kernel has a row for each output channel), with gradient G and the
recipe's momentum m, learning rate lr and weight decay wd,

    M <- m M + (1 - m) G,     U = (1 - m) G + m M,     W <- (1 - lr wd) W - lr 0.2 sqrt(max(r, c)) polar(U)

where polar(U), the matrix with U's singular vectors and equal singular values, is approximated by five Newton-Schulz
steps X <- a X + b (X X^T) X + c (X X^T)^2 X from U / |U|, which leave singular values between about 0.7 and 1.2. The
factor gives the update the size that AdamW's has, so that one learning rate serves both. docs/recipes.md reports the
measured gain.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024 (https://kellerjordan.github.io/posts/muon);
the factor: Liu et al., "Muon is scalable for LLM training", 2025 (https://arxiv.org/abs/2502.16982).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from headway.train.engine.fabric import full_tensor, shard_like

NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c above, which Jordan et al. chose for the steepest slope at 0."""
NEWTON_SCHULZ_STEPS = 5
MIN_MATRIX_SIDE = 16
"""Matrices with fewer rows or columns are left to AdamW: they have too few directions for Muon to help."""


class Muon(torch.optim.AdamW):
    """AdamW, except that groups marked ``orthogonal`` take the step above.

    A group needs ``orthogonal`` besides AdamW's settings; an orthogonal one also ``momentum`` and ``use_bf16`` (see
    ``orthogonalize``). Parameters that FSDP2 has sharded are gathered for the step, on every process.

    Being AdamW with one more kind of group, it needs no second path for moments, learning rates and resume. torch's own
    Muon accepts only matrices, always runs in bfloat16 and does not support sharded parameters; tests compare the two.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch's is overloaded
        """Update every parameter that has a gradient."""
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group["orthogonal"]]
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group["orthogonal"]:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._update(parameter, group)
        return loss

    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(momentum, group["momentum"])
        direction = shard_like(
            orthogonalize(full_tensor(update).flatten(1), group["use_bf16"]).view(parameter.shape), parameter
        )
        rows, columns = parameter.shape[0], parameter[0].numel()
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction, alpha=-group["lr"] * 0.2 * math.sqrt(max(rows, columns)))


def can_orthogonalize(parameter: Tensor) -> bool:
    """Whether a parameter is a matrix or a convolution kernel of at least MIN_MATRIX_SIDE rows and columns."""
    return parameter.dim() >= 2 and min(parameter.shape[0], parameter[0].numel()) >= MIN_MATRIX_SIDE


def orthogonalize(matrix: Tensor, use_bf16: bool = False) -> Tensor:
    """The matrix (r c) with singular values between about 0.7 and 1.2; very small ones stay smaller.

    Args:
        matrix: r c.
        use_bf16: Compute the steps in bfloat16, which most processors and devices multiply much faster. In the matrix's
            own precision the steps use X X^T alone, whose polynomials commute, which halves the work for wide matrices;
            bfloat16 would round the small eigenvalues of X X^T to negative ones, which grow.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalize(matrix.T.contiguous(), use_bf16).T
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    x = matrix / matrix.norm().clamp(min=1e-7)  # r c
    if use_bf16:
        x = x.bfloat16()
        for _ in range(NEWTON_SCHULZ_STEPS):
            gram = x @ x.T  # r r
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)  # r c
        return x.to(matrix.dtype)
    gram = x @ x.T  # r r
    product = one = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    for i in range(NEWTON_SCHULZ_STEPS):
        factor = torch.addmm(a * one + b * gram, gram, gram, alpha=c)  # r r
        product = factor @ product if i else factor
        if i + 1 < NEWTON_SCHULZ_STEPS:
            gram = factor @ gram @ factor
    return product @ x
