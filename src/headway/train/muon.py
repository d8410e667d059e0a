"""Muon: matrices are moved along their momentum with all its singular values made about 1.

For a weight W of r rows and c columns (a convolution's kernel has a row for each channel that it makes), with gradient
G and the recipe's momentum m, rate and decay,

    M <- m M + (1 - m) G,     U = (1 - m) G + m M,     W <- (1 - rate decay) W - rate 0.2 sqrt(max(r, c)) polar(U)

where polar(U), the matrix with U's singular vectors and equal singular values, is approached by five rounds of
X <- a X + b (X X^T) X + c (X X^T)^2 X from U / |U|, which leave singular values between about 0.7 and 1.2. The factor
gives the update the size that AdamW's has, so that one learning rate serves both. docs/recipes.md says what it
was worth.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024 (https://kellerjordan.github.io/posts/muon);
the factor: Liu et al., "Muon is scalable for LLM training", 2025 (https://arxiv.org/abs/2502.16982).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from headway.train.cut import held_like, whole_tensor

QUINTIC = (3.4445, -4.7750, 2.0315)
"""a, b, c above: chosen by Jordan et al. for the steepest rise at 0."""
ROUNDS = 5
SMALLEST = 16
"""Rows and columns below which a matrix has too few directions to be worth it."""


class Muon(torch.optim.AdamW):
    """AdamW, but for groups that are marked ``orthogonal``: these take the step above.

    A group needs ``orthogonal`` beside what AdamW's need; an orthogonal one also ``momentum`` and ``half`` (see
    ``polar``). Parameters that FSDP2 has cut are put together for the step, by every process.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch's is overloaded
        """Move every parameter that has a gradient."""
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
                        self._move(parameter, group)
        return loss

    def _move(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(momentum, group["momentum"])
        direction = held_like(polar(whole_tensor(update).flatten(1), group["half"]).view(parameter.shape), parameter)
        rows, columns = parameter.shape[0], parameter[0].numel()
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction, alpha=-group["lr"] * 0.2 * math.sqrt(max(rows, columns)))


def fits(parameter: Tensor) -> bool:
    """Whether a parameter is a matrix, or a kernel, with directions enough."""
    return parameter.dim() >= 2 and min(parameter.shape[0], parameter[0].numel()) >= SMALLEST


def polar(matrix: Tensor, half: bool = False) -> Tensor:
    """The matrix (r c) with singular values between about 0.7 and 1.2; very small ones stay smaller.

    Args:
        matrix: r c.
        half: Take the rounds in bfloat16, which most processors and devices multiply much faster. In the matrix's own
            precision they run on X X^T alone, whose polynomials commute: half the work for wide matrices; bfloat16
            would round the small eigenvalues of that to negative ones, which grow.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return polar(matrix.T.contiguous(), half).T
    a, b, c = QUINTIC
    x = matrix / matrix.norm().clamp(min=1e-7)  # r c
    if half:
        x = x.bfloat16()
        for _ in range(ROUNDS):
            gram = x @ x.T  # r r
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)  # r c
        return x.to(matrix.dtype)
    gram = x @ x.T  # r r
    product = one = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    for number in range(ROUNDS):
        factor = torch.addmm(a * one + b * gram, gram, gram, alpha=c)  # r r
        product = factor @ product if number else factor
        if number + 1 < ROUNDS:
            gram = factor @ gram @ factor
    return product @ x
