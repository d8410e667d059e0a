"""The linear probe: logistic regression on frozen features (``logistic``), with one honest choice, of the penalty.

Its strength is chosen on held-out folds of the training labels, and what was said of the pictures held out gives the
temperature at which probabilities mean what they say. With several labels a picture there is one binary regression a
class, all at one strength.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.data.split import some_folds, strata
from headway.measure.balance import class_weights, weight_of_each
from headway.measure.calibration import fit_temperature, log_loss
from headway.measure.logistic import Axes, principal_axes, solve

STRENGTHS = tuple(10.0 ** (e / 2) for e in range(-10, 3))
"""Strengths tried, 1e-5 to 10, two a decade."""
DEFAULT_STRENGTH = 0.01
"""The strength where there is nothing to choose it by: no class has a second label to hold out."""
ENOUGH = 5000
"""Folds are tried until so many pictures were held out; more would not move the choice."""
ROUGHLY = 1e-4
"""Slope that is small enough while a strength is being chosen: no held-out picture changes sides for less."""
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


class Fitted(NamedTuple):
    """A probe, the strength that was chosen for it, and the temperature that calibrates it."""

    probe: LinearProbe
    strength: float
    temperature: float


class _Choice(NamedTuple):
    strength: float
    temperature: float


def fit_linear(features: Tensor, labels: Tensor, classes: int, strength: float, balance: bool = False) -> LinearProbe:
    """Logistic regression at one strength.

    Args:
        features: N D, raw; standardised inside.
        labels: N, int64 in 0..K-1; or N K of 0 and 1, where a picture may have several.
        classes: K, at least 2.
        strength: Inverse of the penalty on standardised features, scikit-learn's C.
        balance: Whether classes count alike, however many pictures they have.

    Raises:
        ValueError: Where features and labels don't fit, aren't finite or the strength isn't positive.
    """
    _check(features, labels, classes, (strength,))
    axes = principal_axes(features)
    return _probe(axes, solve(axes, labels, classes, strength, weights=_weights(labels, balance)), features.dtype)


def choose_strength(
    features: Tensor,
    labels: Tensor,
    classes: int,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = 5,
    seed: int = 0,
    groups: Tensor | None = None,
) -> float:
    """The strength that recognises most on held-out folds of the training labels; log loss decides between equals.

    Standardising and turning into principal axes look at all N features, but at no label. With several labels a picture
    log loss alone decides.

    Args:
        features: N D, raw.
        labels: N, int64 in 0..K-1; or N K of 0 and 1.
        classes: K.
        strengths: To choose from.
        folds: Parts, with classes spread evenly; at most N.
        seed: Of the folds.
        groups: N, int64: rows of equal group are held out together; none: each stands for itself.

    Returns:
        One of ``strengths``, or ``DEFAULT_STRENGTH`` where no class has two labels.
    """
    _check(features, labels, classes, strengths)
    return _choose(principal_axes(features), labels, classes, strengths, folds, seed, None, groups).strength


def _choose(
    axes: Axes,
    labels: Tensor,
    classes: int,
    strengths: Sequence[float],
    folds: int,
    seed: int,
    weights: Tensor | None,
    groups: Tensor | None = None,
) -> _Choice:
    spread = strata(labels.cpu())  # N
    cut = some_folds(spread, folds, ENOUGH, seed, groups)
    parts = [tuple(part.to(labels.device) for part in parts) for parts in cut]
    if not parts:
        return _Choice(DEFAULT_STRENGTH, 1.0)
    truth = torch.cat([labels[held] for _, held in parts])
    solutions: list[Tensor | None] = [None] * len(parts)
    best, chosen, said, waited = (-1, 0.0), DEFAULT_STRENGTH, axes.x.new_zeros(len(truth), classes), 0
    for strength in sorted(strengths):
        looked = []
        for i, (train, held) in enumerate(parts):  # each solution starts the next: they lie near one another
            solutions[i] = solution = solve(axes, labels, classes, strength, train, solutions[i], ROUGHLY, weights)
            on_x = axes.turned(solution)
            looked.append(torch.addmm(on_x[-1], axes.x[held], on_x[:-1]))  # n K
        logits = torch.cat(looked)
        right = int((logits.argmax(1) == truth).sum()) if labels.dim() == 1 else 0
        loss = log_loss(logits, truth)
        if (right, -loss) > best:
            best, chosen, said, waited = (right, -loss), strength, logits, 0
        elif (waited := waited + 1) == PATIENCE:
            break
    return _Choice(chosen, fit_temperature(said.cpu(), truth.cpu(), doubt=1.0))


def fit_probe(
    features: Tensor,
    labels: Tensor,
    classes: int,
    seed: int = 0,
    balance: bool = False,
    groups: Tensor | None = None,
) -> Fitted:
    """Choose strength and temperature on folds of the training labels, then fit all of them.

    Args:
        features: N D, raw.
        labels: N, int64 in 0..K-1; or N K of 0 and 1, where a picture may have several.
        classes: K.
        seed: Of the folds.
        balance: Whether classes count alike, however many pictures they have.
        groups: N, int64: rows of equal group are held out together; none: each stands for itself.

    Raises:
        ValueError: As ``fit_linear`` does.
    """
    _check(features, labels, classes, STRENGTHS)
    axes, weights = principal_axes(features), _weights(labels, balance)
    chosen = _choose(axes, labels, classes, STRENGTHS, 5, seed, weights, groups)
    solution = solve(axes, labels, classes, chosen.strength, weights=weights)
    return Fitted(_probe(axes, solution, features.dtype), *chosen)


def linear_probe(features: Tensor, labels: Tensor, classes: int, seed: int = 0) -> tuple[LinearProbe, float]:
    """The probe, and the strength that was chosen: ``fit_probe`` without more."""
    return fit_probe(features, labels, classes, seed)[:2]


def _probe(axes: Axes, solution: Tensor, dtype: torch.dtype) -> LinearProbe:
    weight, bias = axes.raw(solution)
    return LinearProbe(weight.to(dtype), bias.to(dtype))


def _weights(labels: Tensor, balance: bool) -> Tensor | None:
    return weight_of_each(labels, class_weights(labels)) if balance else None


def _check(features: Tensor, labels: Tensor, classes: int, strengths: Sequence[float]) -> None:
    several = labels.ndim == 2
    if features.ndim != 2 or len(labels) != len(features) or labels.ndim not in (1, 2) or not len(labels):
        raise ValueError(f"features must be N D and labels N, got {tuple(features.shape)} and {tuple(labels.shape)}")
    if classes < 2 or float(labels.min()) < 0 or float(labels.max()) >= (2 if several else classes):
        raise ValueError(f"labels must lie in 0..{1 if several else classes - 1}, with two classes at least")
    if several and labels.shape[1] != classes:
        raise ValueError(f"labels must be N x {classes} classes, got {tuple(labels.shape)}")
    if not strengths or min(strengths) <= 0:
        raise ValueError(f"strengths must be positive, got {tuple(strengths)}")
    if not all(bool(end.isfinite()) for end in features.aminmax()):  # either end is NaN where any number is
        raise ValueError("features hold NaN or infinity: the backbone that made them has diverged")
