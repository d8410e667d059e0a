"""Logistic regression to convergence, fast: the solver under the linear probe.

With standardized features, W (K D) and b (K) minimize, as scikit-learn's LogisticRegression does,

    f(W, b) = sum_i w_i loss_i(W x_i + b)  +  |W|^2 / (2 inverse_l2)

where loss_i is -log softmax(z)[label_i], or for multilabel data the sum of the K binary losses. The optimizer is
SciPy's L-BFGS (Liu and Nocedal 1989, https://doi.org/10.1007/BF01589116).

Features are badly scaled in directions that standardizing single coordinates cannot mend. So f is written in their
principal axes, where the curvature in direction j is at most s_j^2 / 2 + 1 / inverse_l2 (Boehning 1992,
https://doi.org/10.1007/BF00048682; a quarter in place of a half for binary losses), s_j being the singular value.
Divided by its root, each direction curves alike, and a few iterations suffice. Neither step moves the minimum: the
penalty does not depend on rotations and stays in the old units.

Large problems begin on a quarter of the rows, where a pass is cheap and leads nearly as far. On processors made for it,
all rows then continue in bfloat16, where a pass takes a third of the time, and float32 finishes.
"""

from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor

from headway.utils.threads import torch_threads, unstalled_threads

MAX_FLOAT64_NUMEL = 1 << 22
"""Features of at most this many numbers are fitted in float64, larger ones in float32."""
GRADIENT_TOLERANCE = {torch.float64: 1e-7, torch.float32: 3e-5}
"""On the largest slope of f / N in the scaled coordinates: what the number format can resolve."""
MAX_SINGLE_THREAD_NUMEL = 1 << 20
"""Features of at most this many numbers are processed by one thread."""
LBFGS_HISTORY = 20
"""Steps that L-BFGS remembers."""
MIN_ROWS_TO_SUBSAMPLE, SUBSAMPLE_FACTOR = 32768, 4
"""From so many rows on, a random fourth of them is solved first, and another fourth gives the axes."""
ROWS_PER_CHUNK = 4096
"""Rows squared at a time: more would not fit in the processor's cache."""
SUBSAMPLE_TOLERANCE, MANY_ROWS_TOLERANCE = 3e-3, 2e-4
"""Slopes at which the fourth is solved well enough (it determines weak directions poorly), and then all rows. There f
is within a ten-thousandth of its minimum, and the weights that would still move affect no prediction."""


class PrincipalAxes(NamedTuple):
    """The principal axes of standardized features.

    Attributes:
        x: N C, the features less their mean (C = D), or their coordinates on the axes where N < D.
        variance: C, the mean square along each axis (approximate for many rows).
        axes_to_x: C C, maps weights on the axes to weights on x; None where these are the same.
        axes_to_raw: D C, maps weights on the axes to weights on raw features.
        mean: D, of the raw features.
    """

    x: Tensor
    variance: Tensor
    axes_to_x: Tensor | None
    axes_to_raw: Tensor
    mean: Tensor

    def weights_on_x(self, solution: Tensor) -> Tensor:
        """Weights and biases on the axes, C+1 K -> the same for x."""
        return solution if self.axes_to_x is None else torch.cat([self.axes_to_x @ solution[:-1], solution[-1:]])

    def weights_on_raw(self, solution: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and biases on the axes, C+1 K -> for raw features: K D, K."""
        weight = (self.axes_to_raw @ solution[:-1]).T  # K D
        return weight, solution[-1] - weight @ self.mean


def solver_threads(x: Tensor) -> AbstractContextManager[None]:
    """Let torch use one thread for few numbers, and where other programs would stall several; else all of them."""
    return torch_threads(1 if x.numel() <= MAX_SINGLE_THREAD_NUMEL else unstalled_threads())


def principal_axes(features: Tensor) -> PrincipalAxes:
    """Standardize N D features and find their principal axes."""
    features = features.to(torch.float64 if features.numel() <= MAX_FLOAT64_NUMEL else torch.float32)
    count, dim = features.shape
    mean = features.mean(0)  # D
    x = features - mean  # N D
    variance = torch.stack([chunk.square().sum(0) for chunk in x.split(ROWS_PER_CHUNK)]).sum(0) / count  # D
    std = torch.where(variance.sqrt() > 1e-6 * mean.abs().clamp_min(1e-6), variance.sqrt(), 1.0)  # D
    if count >= dim:
        step = SUBSAMPLE_FACTOR if count >= MIN_ROWS_TO_SUBSAMPLE else 1
        part = x[::step]  # axes only scale the search, so a part of the rows gives them well enough
        variance, basis = torch.linalg.eigh(part.T @ part / len(part) / std / std[:, None])  # D, D D
        axes_to_x = basis / std[:, None]  # D D
        return PrincipalAxes(x, variance.clamp_min(0), axes_to_x, axes_to_x, mean)
    x = x.div_(std)
    variance, left = torch.linalg.eigh(x @ x.T / count)  # the smaller of the two Gram matrices has the same spectrum
    signal = variance > 100 * torch.finfo(x.dtype).eps * variance.max()  # centering leaves at least one axis of noise
    variance, left = variance[signal], left[:, signal]  # C, N C
    basis = x.T @ left / (count * variance).sqrt()  # D C
    return PrincipalAxes(x @ basis, variance.clamp_min(0), None, basis / std[:, None], mean)


def solve_logistic(
    axes: PrincipalAxes,
    labels: Tensor,
    num_classes: int,
    inverse_l2: float,
    rows: Tensor | None = None,
    initial: Tensor | None = None,
    tolerance: float = 0.0,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Weights and biases on the axes, C+1 K, that minimize f on some rows.

    Args:
        axes: Of all rows.
        labels: N, int64 in 0..K-1; or N K of 0 and 1 for multilabel data.
        num_classes: K.
        inverse_l2: Inverse of the penalty, scikit-learn's C; two classes count as its one vector, as they do there.
        rows: Indices of the rows to fit; None: all.
        initial: A solution for another penalty, from which the search starts.
        tolerance: Stop at this slope if it is larger than the default.
        sample_weight: Weight of each image, N; for N K labels of each image and label, N K. None: 1.
    """
    count = len(labels) if rows is None else len(rows)
    if count >= MIN_ROWS_TO_SUBSAMPLE:
        tolerance = max(tolerance, MANY_ROWS_TOLERANCE)
        if initial is None:
            initial = _rough_solution(axes, labels, num_classes, inverse_l2, rows, sample_weight)
    x, dtype = axes.x, axes.variance.dtype
    if rows is not None:
        x, labels, sample_weight = x[rows], labels[rows], None if sample_weight is None else sample_weight[rows]
    one = labels.dim() == 1
    penalty = (2.0 if one and num_classes == 2 else 1.0) / (inverse_l2 * count)  # on f / N
    bound = 2.0 if one else 4.0
    curvature = torch.cat([axes.variance / bound + penalty, axes.variance.new_full((1,), 1 / bound)])  # C+1
    scale = curvature.rsqrt()[:, None]  # C+1 1
    targets = labels[None] if one else labels.T.to(scale)  # 1 N, or K N
    weight = sample_weight  # None, 1 N, or K N
    if weight is not None:
        weight = (weight[None] if one else weight.T).to(scale)
    minus = scale.new_full((1, 1), -1.0).expand(1, count) if one else scale

    def value_and_gradient(point: np.ndarray) -> tuple[float, np.ndarray]:
        w = torch.from_numpy(point).reshape(-1, num_classes).to(scale) * scale  # C+1 K
        on_x = axes.weights_on_x(w).to(x)  # C+1 K
        z = torch.addmm(on_x[-1], x, on_x[:-1])  # N K
        z = z.T.to(dtype).contiguous()  # K N: in this layout all that follows is several times as fast
        if one:
            log_p = z.log_softmax(0)  # K N
            losses, error = -log_p.gather(0, targets), log_p.exp().scatter_add_(0, targets, minus)  # 1 N, K N
        else:
            losses, error = F.softplus(z) - targets * z, z.sigmoid() - targets  # K N, K N
        if weight is not None:
            losses, error = losses * weight, error * weight
        loss = penalty / 2 * w[:-1].double().square().sum() + losses.sum(dtype=torch.float64) / count
        slope = (error.to(x) @ x).T.to(dtype) / count  # C K
        slope = (slope if axes.axes_to_x is None else axes.axes_to_x.T @ slope) + penalty * w[:-1]  # C K
        slope = torch.cat([slope, error.sum(1)[None] / count]) * scale  # C+1 K
        return float(loss), slope.double().flatten().cpu().numpy()

    start = torch.zeros_like(scale).expand(-1, num_classes) if initial is None else initial / scale
    options = {
        "maxcor": LBFGS_HISTORY, "gtol": max(GRADIENT_TOLERANCE[dtype], tolerance),
        "ftol": 1e-14 if x.dtype == torch.float64 else 1e-7, "maxiter": 1000,
    }  # fmt: skip
    with solver_threads(x):
        found = minimize(
            value_and_gradient, start.double().flatten().cpu().numpy(), jac=True, method="L-BFGS-B", options=options
        )
    return torch.from_numpy(found.x).reshape(-1, num_classes).to(scale) * scale  # C+1 K


def _rough_solution(
    axes: PrincipalAxes, labels: Tensor, num_classes: int, inverse_l2: float, rows: Tensor | None,
    sample_weight: Tensor | None,
) -> Tensor:  # fmt: skip
    """A start for many rows, C+1 K: a random fourth of them, then all in bfloat16 where that is fast."""
    count = len(labels) if rows is None else len(rows)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    part = order[: count // SUBSAMPLE_FACTOR].to(labels.device)
    part = part if rows is None else rows[part]
    scaled = SUBSAMPLE_FACTOR * inverse_l2  # the same penalty on f / N
    initial = solve_logistic(axes, labels, num_classes, scaled, part, None, SUBSAMPLE_TOLERANCE, sample_weight)
    if not has_fast_bfloat16(axes.x):
        return initial
    half = axes._replace(x=axes.x.bfloat16())
    return solve_logistic(half, labels, num_classes, inverse_l2, rows, initial, MANY_ROWS_TOLERANCE, sample_weight)


def has_fast_bfloat16(x: Tensor) -> bool:
    """Whether this processor multiplies these numbers several times as fast once they are rounded to bfloat16."""
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # earlier versions of torch lack it
    return x.dtype == torch.float32 and x.device.type == "cpu" and bool(known.get("amx_bf16", False))
