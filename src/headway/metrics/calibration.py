"""Calibration of probabilities: of predictions with 80 % confidence, 80 % should be correct.

Guo et al., "On calibration of modern neural networks", 2017 (https://arxiv.org/abs/1706.04599): logits z are divided by
one number T, which changes no decision; T minimizes the log loss on images outside the training set:

    p = softmax(z / T),        error = sum over bins b of (n_b / n) |accuracy_b - confidence_b|

For multilabel data p = sigmoid(z / T) for each class, and a prediction is correct where the image has the label.
"""

import math

import torch
import torch.nn.functional as F
from scipy.optimize import brentq
from torch import Tensor

MAX_LOG_TEMPERATURE = 8.0
"""log T lies between minus and plus this value."""


def probabilities(logits: Tensor, temperature: float = 1.0, multilabel: bool = False) -> Tensor:
    """N K -> N K: softmax of the logits over T, rows that sum to one; for multilabel data the sigmoid."""
    scaled = logits / temperature
    return scaled.sigmoid() if multilabel else scaled.softmax(1)


def one_hot_targets(labels: Tensor, num_classes: int) -> Tensor:
    """The true probabilities, N K of 0 and 1: from one label per image (N, int64), or as given (N K)."""
    return F.one_hot(labels, num_classes) if labels.dim() == 1 else labels


def log_loss(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> float:
    """Mean over images of -log p(label); for multilabel data, of the mean over classes of the binary log loss.

    Args:
        logits: N K.
        labels: N, int64 in 0..K-1; or N K of 0 and 1 for multilabel data.
        temperature: T.
    """
    scaled = logits.double() / temperature  # N K
    if labels.dim() == 1:
        return float(F.cross_entropy(scaled, labels))
    return float(F.binary_cross_entropy_with_logits(scaled, labels.double()))


def fit_temperature(logits: Tensor, labels: Tensor, pseudo_count: float = 0.0) -> float:
    """The T that minimizes ``log_loss``, found as the root of its slope: the loss is convex in 1 / T.

    Args:
        logits: N K, of images outside the training set.
        labels: As for ``log_loss``.
        pseudo_count: Number of imaginary images with unknown labels that are added (Platt 1999 softens targets for
            the same reason). Without them, a few images that are all correct would make T as small as possible.

    Returns:
        T, between e^-8 and e^8; 1 where all logits are equal.
    """
    z, count = logits.double(), len(logits)  # N K
    one = labels.dim() == 1
    smoothing = pseudo_count / (count + pseudo_count) if count else 0.0
    targets = (1 - smoothing) * one_hot_targets(labels, z.shape[1]).double() + smoothing / (
        z.shape[1] if one else 2
    )  # N K

    def slope(log_t: float) -> float:
        probs = probabilities(z, math.exp(log_t), multilabel=not one)  # N K
        return float(((probs - targets) * z).sum(1).mean())

    if not count or bool((z == (z[:, :1] if one else 0)).all()):
        return 1.0
    if slope(-MAX_LOG_TEMPERATURE) <= 0:  # the loss falls for ever smaller T
        return math.exp(-MAX_LOG_TEMPERATURE)
    if slope(MAX_LOG_TEMPERATURE) >= 0:  # the logits are misleading: uniform probabilities are best
        return math.exp(MAX_LOG_TEMPERATURE)
    return math.exp(brentq(slope, -MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE, xtol=1e-10))


def calibration_error(probs: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error in points of per cent: 0 is best.

    Args:
        probs: N K, probabilities.
        labels: N, int64: the confidence of the predicted class is compared with the accuracy; or N K of 0 and 1: the
            probability of every class is compared with the frequency of its label.
        bins: Number of equal intervals of confidence.
    """
    if labels.dim() == 1:
        confidence, predicted = probs.double().max(1)  # N, N
        correct = (predicted == labels).double()  # N
    else:
        confidence, correct = probs.double().flatten(), labels.double().flatten()  # N*K each
    bin_index = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)  # bin b holds (b / bins, (b + 1) / bins]
    gaps = torch.zeros(bins, dtype=torch.float64).index_add_(0, bin_index, correct - confidence)  # bins
    return 100.0 * float(gaps.abs().sum()) / max(len(confidence), 1)
