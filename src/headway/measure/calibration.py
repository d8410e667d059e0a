"""Do probabilities mean what they say? Of pictures named with 80 % confidence, 80 % should be right.

Guo et al., "On calibration of modern neural networks", 2017 (https://arxiv.org/abs/1706.04599): logits z are divided by
one number T, which changes no decision, and T minimises the log loss on pictures that were not trained on:

    p = softmax(z / T),        error = sum over bins b of (n_b / n) |right_b - confidence_b|

With several labels a picture, p = sigmoid(z / T) for each class, and "right" is that the picture has the label.
"""

import math

import torch
import torch.nn.functional as F
from scipy.optimize import brentq
from torch import Tensor

REACH = 8.0
"""log T lies within plus and minus this much."""


def probabilities(logits: Tensor, temperature: float = 1.0, several: bool = False) -> Tensor:
    """N K -> N K: softmax of the logits over T, rows that sum to one; with several labels a picture, sigmoid."""
    scaled = logits / temperature
    return scaled.sigmoid() if several else scaled.softmax(1)


def targets_of(labels: Tensor, classes: int) -> Tensor:
    """What should have been said, N K of 0 and 1: from one label a picture (N, int64), or as given (N K)."""
    return F.one_hot(labels, classes) if labels.dim() == 1 else labels


def log_loss(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> float:
    """Mean over pictures of -log p(label); with several labels, of the mean over classes of the binary one.

    Args:
        logits: N K.
        labels: N, int64 in 0..K-1; or N K of 0 and 1, where a picture may have several.
        temperature: T.
    """
    scaled = logits.double() / temperature  # N K
    if labels.dim() == 1:
        return float(F.cross_entropy(scaled, labels))
    return float(F.binary_cross_entropy_with_logits(scaled, labels.double()))


def fit_temperature(logits: Tensor, labels: Tensor, doubt: float = 0.0) -> float:
    """The T that minimises ``log_loss``: convex in 1 / T, so that the root of its slope is looked for.

    Args:
        logits: N K, of pictures that were not trained on.
        labels: As for ``log_loss``.
        doubt: How many further pictures are imagined of which nobody knows the label (Platt 1999 softens his targets
            for the same reason): with none, a few pictures that are all right would ask for certainty.

    Returns:
        T, between e^-8 and e^8; 1 where the logits say nothing.
    """
    z, count = logits.double(), len(logits)  # N K
    one = labels.dim() == 1
    soft = doubt / (count + doubt) if count else 0.0
    wanted = (1 - soft) * targets_of(labels, z.shape[1]).double() + soft / (z.shape[1] if one else 2)  # N K

    def slope(log_t: float) -> float:
        said = probabilities(z, math.exp(log_t), several=not one)  # N K
        return float(((said - wanted) * z).sum(1).mean())

    if not count or bool((z == (z[:, :1] if one else 0)).all()):
        return 1.0
    if slope(-REACH) <= 0:  # sharper is better without end
        return math.exp(-REACH)
    if slope(REACH) >= 0:  # the logits mislead: nearest to saying nothing
        return math.exp(REACH)
    return math.exp(brentq(slope, -REACH, REACH, xtol=1e-10))


def calibration_error(said: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error in points of per cent: 0 is best.

    Args:
        said: N K, probabilities.
        labels: N, int64: the confidence of the class named is compared with how often it is right; or N K of 0 and 1:
            every class's probability with how often pictures have that label.
        bins: Equal steps of confidence.
    """
    if labels.dim() == 1:
        confidence, named = said.double().max(1)  # N, N
        right = (named == labels).double()  # N
    else:
        confidence, right = said.double().flatten(), labels.double().flatten()  # N*K each
    place = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)  # bin b holds (b / bins, (b + 1) / bins]
    gaps = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, right - confidence)  # bins
    return 100.0 * float(gaps.abs().sum()) / max(len(confidence), 1)
