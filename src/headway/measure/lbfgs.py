"""L-BFGS for smooth convex functions, with a memory that outlives one call.

Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", 1989
(https://doi.org/10.1007/BF01589116): the last steps s and changes of slope y stand for the curvature. What was
learned of it on some of the data is as good a beginning on all of them.
"""

from collections import deque
from collections.abc import Callable

from torch import Tensor

Memory = deque[tuple[Tensor, Tensor]]
"""Pairs (s, y), the latest last."""
LENGTH = 20
"""Pairs that are remembered."""
TRIES = 20
"""Halvings of a step before the numbers are taken to hold no better point."""


def minimise(
    function: Callable[[Tensor], tuple[float, Tensor]],
    point: Tensor,
    tolerance: float,
    memory: Memory | None = None,
    noise: float = 1e-14,
    most: int = 1000,
) -> Tensor:
    """Where the function is lowest.

    Args:
        function: From a point to its value and gradient (float64, the point's shape); scaled so that a step by minus
            the gradient is about right.
        point: Where to start, float64.
        tolerance: Stop where no entry of the gradient is larger.
        memory: Of an earlier call on a like function; filled further.
        noise: Relative error of values.
        most: Steps at most.
    """
    memory = deque(maxlen=LENGTH) if memory is None else memory
    value, gradient = function(point)
    for _ in range(most):
        if float(gradient.abs().max()) <= tolerance:
            break
        direction = -_newton(memory, gradient)
        slope = float((gradient * direction).sum())
        if slope >= 0:  # the memory misleads
            memory.clear()
            direction, slope = -gradient, -float(gradient.square().sum())
        step = 1.0
        for _ in range(TRIES):
            new_value, new_gradient = function(point + step * direction)
            if new_value <= value + 1e-4 * step * slope + noise * abs(value):
                break
            step /= 2
        else:
            break
        s, y = step * direction, new_gradient - gradient
        if float((s * y).sum()) > 1e-10 * float(y.square().sum()):
            memory.append((s, y))
        point, value, gradient = point + s, new_value, new_gradient
    return point


def _newton(memory: Memory, gradient: Tensor) -> Tensor:
    """The inverse of the curvature that the memory stands for, times the gradient: two loops."""
    q, shares = gradient.clone(), []
    for s, y in reversed(memory):
        share = (s * q).sum() / (s * y).sum()
        q -= share * y
        shares.append(share)
    if memory:
        s, y = memory[-1]
        q *= (s * y).sum() / y.square().sum()
    for (s, y), share in zip(memory, reversed(shares), strict=True):
        q += (share - (y * q).sum() / (s * y).sum()) * s
    return q
