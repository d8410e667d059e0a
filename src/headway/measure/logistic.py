"""Logistic regression to convergence, fast: the solver under the linear probe.

With features standardised, W (K D) and b (K) minimise, as scikit-learn's LogisticRegression does,

    f(W, b) = sum_i w_i loss_i(W x_i + b)  +  |W|^2 / (2 strength)

where loss_i is -log softmax(z)[label_i], or with several labels a picture the sum of the K binary losses; by L-BFGS
(SciPy's; Liu and Nocedal 1989, https://doi.org/10.1007/BF01589116). Features are badly scaled in directions that no
standardising of single coordinates mends, so f is written in their principal axes, where the curvature in direction j
is at most s_j^2 / 2 + 1 / strength (Boehning 1992, https://doi.org/10.1007/BF00048682; a quarter in place of a half for
binary losses), s_j the singular value. Divided by its root each direction bends alike, and a few iterations do. Neither
step moves the minimum: the penalty is blind to rotations and is kept in the old units. Large problems begin on a
quarter of the rows, where a pass costs little and leads nearly as far; where the processor is made for it, all rows
then go on in half the bits (bfloat16), of which a pass takes a third of the time, and float32 has the last word.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor

from headway.threads import threads

SMALL = 1 << 22
"""Features of at most this many numbers are fitted in float64, larger ones in float32."""
TOLERANCE = {torch.float64: 1e-7, torch.float32: 3e-5}
"""On the largest slope of f / N in the scaled coordinates: what the numbers can resolve."""
SHORT = 1 << 20
"""Features of at most this many numbers are passed over by one thread."""
LENGTH = 20
"""Steps that L-BFGS remembers."""
MANY, PART = 32768, 4
"""From so many rows on a fourth part of them, drawn at random, is solved first, and the axes are those of another."""
ROWS = 4096
"""Rows squared at a time: more would leave the processor's cache."""
BEGUN, ENDED = 3e-3, 2e-4
"""The slopes at which the quarter is solved well enough (it knows little of weak directions), and then all rows: f is
within a ten-thousandth of its minimum, and what would still move are weights that no prediction hangs on."""


class Axes(NamedTuple):
    """The principal axes of standardised features.

    Attributes:
        x: N C, the features less their mean (C = D); or where pictures are fewer than coordinates, what they are on the
            axes.
        variance: C, the mean square along each axis (about, where rows are many).
        turn: C C, from weights on the axes to weights on x; none where these are the same.
        outward: D C, from weights on the axes to weights on raw features.
        mean: D, of the raw features.
    """

    x: Tensor
    variance: Tensor
    turn: Tensor | None
    outward: Tensor
    mean: Tensor

    def turned(self, solution: Tensor) -> Tensor:
        """Weights and biases on the axes, C+1 K -> the same for x."""
        return solution if self.turn is None else torch.cat([self.turn @ solution[:-1], solution[-1:]])

    def raw(self, solution: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and biases on the axes, C+1 K -> for raw features: K D, K."""
        weight = (self.outward @ solution[:-1]).T  # K D
        return weight, solution[-1] - weight @ self.mean


def principal_axes(features: Tensor) -> Axes:
    """Standardise N D features and find their principal axes."""
    features = features.to(torch.float64 if features.numel() <= SMALL else torch.float32)
    count, width = features.shape
    mean = features.mean(0)  # D
    x = features - mean  # N D
    square = torch.stack([part.square().sum(0) for part in x.split(ROWS)]).sum(0) / count  # D
    std = torch.where(square.sqrt() > 1e-6 * mean.abs().clamp_min(1e-6), square.sqrt(), 1.0)  # D
    if count >= width:
        some = x[:: PART if count >= MANY else 1]  # axes only scale the search: a part shows them well enough
        variance, basis = torch.linalg.eigh(some.T @ some / len(some) / std / std[:, None])  # D, D D
        turn = basis / std[:, None]  # D D
        return Axes(x, variance.clamp_min(0), turn, turn, mean)
    x = x.div_(std)
    variance, left = torch.linalg.eigh(x @ x.T / count)  # the smaller of the two Gram matrices has the same spectrum
    real = variance > 100 * torch.finfo(x.dtype).eps * variance.max()  # centring leaves one axis of noise at least
    variance, left = variance[real], left[:, real]  # C, N C
    basis = x.T @ left / (count * variance).sqrt()  # D C
    return Axes(x @ basis, variance.clamp_min(0), None, basis / std[:, None], mean)


def solve(
    axes: Axes,
    labels: Tensor,
    classes: int,
    strength: float,
    rows: Tensor | None = None,
    start: Tensor | None = None,
    tolerance: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Weights and biases on the axes, C+1 K, that minimise f on some rows.

    Args:
        axes: Of all rows.
        labels: N, int64 in 0..K-1; or N K of 0 and 1, where a picture may have several.
        classes: K.
        strength: Inverse of the penalty, scikit-learn's C; two classes count as its one vector, as they do there.
        rows: Indices of the rows that count; none: all.
        start: A solution for another strength.
        tolerance: Stop at this slope, if that is sooner.
        weights: What each picture counts, N; for N K labels each picture and label, N K. None: 1.
    """
    count = len(labels) if rows is None else len(rows)
    if count >= MANY:
        tolerance = max(tolerance, ENDED)
        if start is None:
            some = torch.randperm(count, generator=torch.Generator().manual_seed(0))[: count // PART].to(labels.device)
            some = some if rows is None else rows[some]
            start = solve(axes, labels, classes, PART * strength, some, None, BEGUN, weights)
            if fast_in_half(axes.x):
                half = axes._replace(x=axes.x.bfloat16())
                start = solve(half, labels, classes, strength, rows, start, ENDED, weights)
    x, wide = axes.x, axes.variance.dtype
    if rows is not None:
        x, labels, weights = x[rows], labels[rows], None if weights is None else weights[rows]
    one = labels.dim() == 1
    penalty = (2.0 if one and classes == 2 else 1.0) / (strength * count)  # on f / N
    bend = 2.0 if one else 4.0
    curvature = torch.cat([axes.variance / bend + penalty, axes.variance.new_full((1,), 1 / bend)])  # C + 1
    scale = curvature.rsqrt()[:, None]  # C+1 1
    wanted = labels[None] if one else labels.T.to(scale)  # 1 N, or K N
    counted = None if weights is None else (weights[None] if one else weights.T).to(scale)  # the same shapes
    minus = scale.new_full((1, 1), -1.0).expand(1, count) if one else scale

    def value_and_gradient(point: np.ndarray) -> tuple[float, np.ndarray]:
        w = torch.from_numpy(point).reshape(-1, classes).to(scale) * scale  # C+1 K
        on_x = axes.turned(w).to(x)  # C+1 K
        z = torch.addmm(on_x[-1], x, on_x[:-1])  # N K
        z = z.T.to(wide).contiguous()  # K N: so laid out, all that follows is several times as fast
        if one:
            log_p = z.log_softmax(0)  # K N
            losses, error = -log_p.gather(0, wanted), log_p.exp().scatter_add_(0, wanted, minus)  # 1 N, K N
        else:
            losses, error = F.softplus(z) - wanted * z, z.sigmoid() - wanted  # K N, K N
        if counted is not None:
            losses, error = losses * counted, error * counted
        loss = penalty / 2 * w[:-1].double().square().sum() + losses.sum(dtype=torch.float64) / count
        slope = (error.to(x) @ x).T.to(wide) / count  # C K
        slope = (slope if axes.turn is None else axes.turn.T @ slope) + penalty * w[:-1]  # C K
        slope = torch.cat([slope, error.sum(1)[None] / count]) * scale  # C+1 K
        return float(loss), slope.double().flatten().cpu().numpy()

    first = torch.zeros_like(scale).expand(-1, classes) if start is None else start / scale
    noise = 1e-14 if x.dtype == torch.float64 else 1e-7  # relative, of f
    options = {"maxcor": LENGTH, "gtol": max(TOLERANCE[wide], tolerance), "ftol": noise, "maxiter": 1000}
    with threads(1 if x.numel() <= SHORT else torch.get_num_threads()):
        found = minimize(
            value_and_gradient, first.double().flatten().cpu().numpy(), jac=True, method="L-BFGS-B", options=options
        )
    return torch.from_numpy(found.x).reshape(-1, classes).to(scale) * scale  # C+1 K


def fast_in_half(x: Tensor) -> bool:
    """Whether this processor multiplies these numbers several times as fast once they are rounded to bfloat16."""
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # earlier versions of torch don't tell
    return x.dtype == torch.float32 and x.device.type == "cpu" and bool(known.get("amx_bf16", False))
