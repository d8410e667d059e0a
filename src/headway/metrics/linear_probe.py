"""The linear probe: logistic regression on frozen features, with one hyperparameter, the inverse of the L2 penalty.

It is chosen on held-out folds of the training labels. The logits of the held-out images also give the temperature that
calibrates the probabilities. For multilabel data there is one binary regression per class, all with one penalty.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.data.sampling.split import folds_until, strata
from headway.metrics.calibration import fit_temperature, log_loss
from headway.metrics.class_weights import class_weights, sample_weights
from headway.metrics.logistic_regression import PrincipalAxes, principal_axes, solve_logistic, solver_threads

INVERSE_L2_GRID = tuple(10.0 ** (e / 2) for e in range(-10, 3))
"""Candidates, 1e-5 to 10, two a decade."""
DEFAULT_INVERSE_L2 = 0.01
"""Used where nothing can be held out: no class has a second label."""
NUM_FOLDS, MAX_HELD_OUT_IMAGES = 5, 5000
"""Folds, and the held-out images after which further folds are left out; more would not change the choice."""
SEARCH_TOLERANCE = 1e-4
"""Slope at which a fit ends during the search: a smaller one changes the prediction of no held-out image."""
SEARCH_PATIENCE = 3
"""The search ends after so many candidates in a row without an improvement: from there on weights only grow."""


class LinearProbe(NamedTuple):
    """An output layer for raw features; standardization is folded into it.

    Attributes:
        weight: K D.
        bias: K.
    """

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """N D -> N K."""
        return F.linear(features.to(self.weight), self.weight, self.bias)


class FittedProbe(NamedTuple):
    """A probe, the inverse penalty chosen for it, and the temperature that calibrates it."""

    probe: LinearProbe
    inverse_l2: float
    temperature: float


def fit_linear(
    features: Tensor, labels: Tensor, num_classes: int, inverse_l2: float, balance_classes: bool = False
) -> LinearProbe:
    """Logistic regression at one penalty.

    Args:
        features: N D, raw; they are standardized here.
        labels: N, int64 in 0..K-1; or N K of 0 and 1 for multilabel data.
        num_classes: K, at least 2.
        inverse_l2: Inverse of the penalty on standardized features, scikit-learn's C.
        balance_classes: Whether all classes get the same total weight.

    Raises:
        ValueError: Shapes don't match, features are not finite, or ``inverse_l2`` is not positive.
    """
    _check_inputs(features, labels, num_classes)
    if inverse_l2 <= 0:
        raise ValueError(f"inverse_l2 must be positive, got {inverse_l2}")
    with solver_threads(features):
        axes, weights = principal_axes(features), _balanced_weights(labels, balance_classes)
        solution = solve_logistic(axes, labels, num_classes, inverse_l2, sample_weight=weights)
        return _to_probe(axes, solution, features.dtype)


def _search(
    axes: PrincipalAxes,
    labels: Tensor,
    num_classes: int,
    seed: int,
    sample_weight: Tensor | None,
    groups: Tensor | None,
) -> tuple[float, float]:
    """The candidate with the highest accuracy on held-out folds of the training labels, and its temperature.

    Ties go to the lower log loss; for multilabel data it alone decides. Standardization and principal axes use all N
    features, but no label.
    """
    splits = folds_until(strata(labels.cpu()), NUM_FOLDS, MAX_HELD_OUT_IMAGES, seed, groups)
    folds = [tuple(part.to(labels.device) for part in split) for split in splits]
    if not folds:
        return DEFAULT_INVERSE_L2, 1.0
    truth = torch.cat([labels[held_out] for _, held_out in folds])
    solutions: list[Tensor | None] = [None] * len(folds)
    best, chosen, waited = (-1, 0.0), DEFAULT_INVERSE_L2, 0
    best_logits = axes.x.new_zeros(len(truth), num_classes)
    for inverse_l2 in INVERSE_L2_GRID:
        fold_logits = []
        for i, (train, held_out) in enumerate(folds):  # solutions of neighboring candidates are close: a warm start
            solutions[i] = solution = solve_logistic(
                axes, labels, num_classes, inverse_l2, train, solutions[i], SEARCH_TOLERANCE, sample_weight
            )
            on_x = axes.weights_on_x(solution)
            fold_logits.append(torch.addmm(on_x[-1], axes.x[held_out], on_x[:-1]))  # n K
        logits = torch.cat(fold_logits)
        correct = int((logits.argmax(1) == truth).sum()) if labels.dim() == 1 else 0
        loss = log_loss(logits, truth)
        if (correct, -loss) > best:
            best, chosen, best_logits, waited = (correct, -loss), inverse_l2, logits, 0
        elif (waited := waited + 1) == SEARCH_PATIENCE:
            break
    return chosen, fit_temperature(best_logits.cpu(), truth.cpu(), pseudo_count=1.0)


def fit_probe(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    seed: int = 0,
    balance_classes: bool = False,
    groups: Tensor | None = None,
) -> FittedProbe:
    """Choose penalty and temperature on folds of the training labels, then fit on all of them.

    Args:
        features: N D, raw.
        labels: N, int64 in 0..K-1; or N K of 0 and 1 for multilabel data.
        num_classes: K.
        seed: Of the folds.
        balance_classes: Whether all classes get the same total weight.
        groups: N, int64: rows of one group are held out together. None: each row is its own group.

    Raises:
        ValueError: As in ``fit_linear``.
    """
    _check_inputs(features, labels, num_classes)
    with solver_threads(features):
        axes, weights = principal_axes(features), _balanced_weights(labels, balance_classes)
        inverse_l2, temperature = _search(axes, labels, num_classes, seed, weights, groups)
        solution = solve_logistic(axes, labels, num_classes, inverse_l2, sample_weight=weights)
        return FittedProbe(_to_probe(axes, solution, features.dtype), inverse_l2, temperature)


def linear_probe(features: Tensor, labels: Tensor, num_classes: int, seed: int = 0) -> tuple[LinearProbe, float]:
    """The probe and the inverse penalty that was chosen for it, by ``fit_probe``."""
    return fit_probe(features, labels, num_classes, seed)[:2]


def _to_probe(axes: PrincipalAxes, solution: Tensor, dtype: torch.dtype) -> LinearProbe:
    weight, bias = axes.weights_on_raw(solution)
    return LinearProbe(weight.to(dtype), bias.to(dtype))


def _balanced_weights(labels: Tensor, balance_classes: bool) -> Tensor | None:
    return sample_weights(labels, class_weights(labels)) if balance_classes else None


def _check_inputs(features: Tensor, labels: Tensor, num_classes: int) -> None:
    multilabel = labels.ndim == 2
    if features.ndim != 2 or len(labels) != len(features) or labels.ndim not in (1, 2) or not len(labels):
        raise ValueError(f"features must be N D and labels N, got {tuple(features.shape)} and {tuple(labels.shape)}")
    if num_classes < 2 or float(labels.min()) < 0 or float(labels.max()) >= (2 if multilabel else num_classes):
        raise ValueError(
            f"labels must lie in 0..{1 if multilabel else num_classes - 1}, and there must be at least two classes"
        )
    if multilabel and labels.shape[1] != num_classes:
        raise ValueError(f"labels must be N x {num_classes} classes, got {tuple(labels.shape)}")
    if not all(bool(end.isfinite()) for end in features.aminmax()):  # either end is NaN where any number is
        raise ValueError("features hold NaN or infinity: the backbone that made them has diverged")
