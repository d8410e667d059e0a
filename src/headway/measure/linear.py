"""The linear probe: multinomial logistic regression on frozen features, to convergence, with one honest choice.

With features standardised, W (K D) and b (K) minimise, as scikit-learn's LogisticRegression does,

    f(W, b) = sum_i -log softmax(W x_i + b)[label_i]  +  |W|^2 / (2 strength)

by L-BFGS (Liu and Nocedal 1989, https://doi.org/10.1007/BF01589116). Features are badly scaled in directions that no
standardising of single coordinates mends, so f is written in their principal axes, where the curvature in direction j
is at most s_j^2 / 2 + 1 / strength (Boehning 1992, https://doi.org/10.1007/BF00048682), s_j the singular value. Divided
by its root each direction bends alike, and a few iterations do. Neither step moves the minimum: the penalty is blind to
rotations and is kept in the old units.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import Tensor

from headway.data.split import folds as stratified_folds

STRENGTHS = tuple(10.0 ** (e / 2) for e in range(-10, 3))
"""Strengths tried, 1e-5 to 10, two a decade."""
DEFAULT_STRENGTH = 0.01
"""The strength where there is nothing to choose it by: no class has a second label to hold out."""
ENOUGH = 5000
"""Folds are tried until so many pictures were held out; more would not move the choice."""
SMALL = 1 << 22
"""Features of at most this many numbers are fitted in float64, larger ones in float32."""
TOLERANCE = {torch.float64: 1e-7, torch.float32: 3e-5}
"""On the largest slope of f / N in the scaled coordinates: what the numbers can resolve."""
ROUGHLY = 1e-4
"""The same while a strength is being chosen, where no held-out picture changes sides for less."""
PATIENCE = 3
"""So many strengths in a row that recognise no more end the search: from there on weights only grow."""


class LinearProbe(NamedTuple):
    """An output layer for raw features: standardising is folded in.

    Attributes:
        weight: K D.
        bias: K.
    """

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """N D -> N K."""
        return F.linear(features.to(self.weight), self.weight, self.bias)


class Axes(NamedTuple):
    """Standardised features in their principal axes, of which there are r <= min(N, D).

    Attributes:
        x: N r.
        variance: r, the mean square along each axis.
        basis: D r, from the axes back to standardised coordinates.
        mean: D, of the raw features.
        std: D, of the raw features; 1 where a coordinate never moves.
    """

    x: Tensor
    variance: Tensor
    basis: Tensor
    mean: Tensor
    std: Tensor

    def probe(self, solution: Tensor, dtype: torch.dtype) -> LinearProbe:
        """From weights and biases on the axes, (r + 1) K, to an output layer for raw features."""
        weight = (self.basis @ solution[:-1]).T / self.std  # K D
        return LinearProbe(weight.to(dtype), (solution[-1] - weight @ self.mean).to(dtype))


def principal_axes(features: Tensor) -> Axes:
    """Standardise N D features and turn them into their principal axes."""
    features = features.to(torch.float64 if features.numel() <= SMALL else torch.float32)
    std, mean = torch.std_mean(features, dim=0, correction=0)  # D, D
    std = torch.where(std > 1e-6 * mean.abs().clamp_min(1e-6), std, 1.0)
    x = (features - mean) / std  # N D
    count, width = x.shape
    if count >= width:
        variance, basis = torch.linalg.eigh(x.T @ x / count)  # D, D D
    else:  # the smaller of the two Gram matrices has the same spectrum
        variance, left = torch.linalg.eigh(x @ x.T / count)  # N, N N
        real = variance > 100 * torch.finfo(x.dtype).eps * variance.max()  # centring leaves one axis of noise at least
        variance, left = variance[real], left[:, real]  # r, N r
        basis = x.T @ left / (count * variance).sqrt()  # D r
    return Axes(x @ basis, variance.clamp_min(0), basis, mean, std)


def solve(
    axes: Axes,
    labels: Tensor,
    classes: int,
    strength: float,
    rows: Tensor | None = None,
    start: Tensor | None = None,
    tolerance: float = 0.0,
) -> Tensor:
    """Weights and biases on the axes, (r + 1) K, that minimise f on some rows.

    Args:
        axes: Of all rows.
        labels: N, int64 in 0..K-1.
        classes: K.
        strength: Inverse of the penalty, scikit-learn's C; two classes count as its one vector, as they do there.
        rows: Indices of the rows that count; none: all.
        start: A solution for another strength.
        tolerance: Stop at this slope, if that is sooner.
    """
    x, labels = (axes.x, labels) if rows is None else (axes.x[rows], labels[rows])
    count, label = len(labels), labels[:, None]  # N 1
    penalty = (2.0 if classes == 2 else 1.0) / (strength * count)  # on f / N
    curvature = torch.cat([axes.variance / 2 + penalty, axes.variance.new_full((1,), 0.5)])  # r + 1
    scale = curvature.rsqrt()[:, None]  # r+1 1

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = torch.from_numpy(flat).to(x).view(-1, classes) * scale  # r+1 K
        log_p = torch.addmm(w[-1], x, w[:-1]).log_softmax(1)  # N K
        loss = penalty / 2 * w[:-1].double().square().sum() - log_p.gather(1, label).mean(dtype=torch.float64)
        error = log_p.exp_().scatter_add_(1, label, x.new_full((1, 1), -1.0).expand_as(label)).div_(count)  # N K
        slope = (error.T @ x).T + penalty * w[:-1]  # r K; so ordered, the product is three times as fast
        gradient = torch.cat([slope, error.sum(0, keepdim=True)]) * scale  # r+1 K
        return float(loss), gradient.double().flatten().cpu().numpy()

    first = torch.zeros_like(scale).expand(-1, classes) if start is None else start / scale
    # SciPy's products are short, and its threads waiting beside torch's made this a hundred times slower.
    with threadpool_limits(1, user_api="blas"):
        found = minimize(
            value_and_gradient,
            first.double().flatten().cpu().numpy(),
            jac=True,
            method="L-BFGS-B",
            options={"gtol": max(TOLERANCE[x.dtype], tolerance), "ftol": 0.0, "maxiter": 1000, "maxcor": 20},
        )
    return torch.from_numpy(found.x).to(x).view(-1, classes) * scale  # r+1 K


def fit_linear(features: Tensor, labels: Tensor, classes: int, strength: float) -> LinearProbe:
    """Logistic regression at one strength.

    Args:
        features: N D, raw; standardised inside.
        labels: N, int64 in 0..K-1.
        classes: K, at least 2.
        strength: Inverse of the penalty on standardised features, scikit-learn's C.

    Raises:
        ValueError: Where features and labels don't fit, aren't finite or the strength isn't positive.
    """
    _check(features, labels, classes, (strength,))
    axes = principal_axes(features)
    return axes.probe(solve(axes, labels, classes, strength), features.dtype)


def choose_strength(
    features: Tensor,
    labels: Tensor,
    classes: int,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = 5,
    seed: int = 0,
) -> float:
    """The strength that recognises most on held-out folds of the training labels; log loss decides between equals.

    Standardising and turning into principal axes look at all N features, but at no label.

    Args:
        features: N D, raw.
        labels: N, int64 in 0..K-1.
        classes: K.
        strengths: To choose from.
        folds: Parts, with classes spread evenly; at most N.
        seed: Of the folds.

    Returns:
        One of ``strengths``, or ``DEFAULT_STRENGTH`` where no class has two labels.
    """
    _check(features, labels, classes, strengths)
    return _choose(principal_axes(features), labels, classes, strengths, folds, seed)


def _choose(axes: Axes, labels: Tensor, classes: int, strengths: Sequence[float], folds: int, seed: int) -> float:
    if int(labels.bincount().max()) < 2:
        return DEFAULT_STRENGTH
    parts, seen = [], 0
    for train, held in stratified_folds(labels.cpu(), folds, seed):
        parts.append((train.to(labels.device), held.to(labels.device)))
        if (seen := seen + len(held)) >= ENOUGH:
            break
    solutions: list[Tensor | None] = [None] * len(parts)
    best, chosen, waited = (-1, 0.0), DEFAULT_STRENGTH, 0
    for strength in sorted(strengths):
        right, loss = 0, 0.0
        for i, (train, held) in enumerate(parts):  # each solution starts the next: they lie near one another
            solutions[i] = solution = solve(axes, labels, classes, strength, train, solutions[i], ROUGHLY)
            logits = torch.addmm(solution[-1], axes.x[held], solution[:-1])  # n K
            right += int((logits.argmax(1) == labels[held]).sum())
            loss += float(F.cross_entropy(logits, labels[held], reduction="sum"))
        if (right, -loss) > best:
            best, chosen, waited = (right, -loss), strength, 0
        elif (waited := waited + 1) == PATIENCE:
            break
    return chosen


def linear_probe(features: Tensor, labels: Tensor, classes: int, seed: int = 0) -> tuple[LinearProbe, float]:
    """Choose the strength on folds of the training labels, then fit all of them: the probe, and the strength chosen.

    Args:
        features: N D, raw.
        labels: N, int64 in 0..K-1.
        classes: K.
        seed: Of the folds.

    Raises:
        ValueError: As ``fit_linear`` does.
    """
    _check(features, labels, classes, STRENGTHS)
    axes = principal_axes(features)
    chosen = _choose(axes, labels, classes, STRENGTHS, 5, seed)
    return axes.probe(solve(axes, labels, classes, chosen), features.dtype), chosen


def _check(features: Tensor, labels: Tensor, classes: int, strengths: Sequence[float]) -> None:
    if features.ndim != 2 or labels.shape != features.shape[:1] or not len(labels):
        raise ValueError(f"features must be N D and labels N, got {tuple(features.shape)} and {tuple(labels.shape)}")
    if classes < 2 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError(f"labels must lie in 0..{classes - 1}, with two classes at least")
    if not strengths or min(strengths) <= 0:
        raise ValueError(f"strengths must be positive, got {tuple(strengths)}")
    if not bool(features.isfinite().all()):
        raise ValueError("features hold NaN or infinity: the backbone that made them has diverged")
