"""Accuracy, and how far it may be trusted: everything in per cent, or in points of per cent."""

from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest, t
from sklearn.metrics import recall_score
from torch import Tensor


class Interval(NamedTuple):
    """A mean and the ends of its interval, in per cent or points."""

    mean: float
    low: float
    high: float


def accuracy(right: Tensor) -> float:
    """Per cent of pictures that were recognised: ``right`` is N, bool."""
    return 100.0 * float(right.double().mean())


def balanced_accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Per cent recognised of each class that occurs in ``labels``, averaged over classes; both N, int64."""
    truth = labels.cpu().numpy()
    return 100.0 * float(recall_score(truth, predicted.cpu().numpy(), labels=np.unique(truth), average="macro"))


def wilson(correct: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of an accuracy over test pictures, for one recogniser: low and high in per cent.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927
    (https://doi.org/10.1080/01621459.1927.10502953): honest near 0 and 100 % too.

    Raises:
        ValueError: Unless 0 <= correct <= total and total >= 1.
    """
    interval = binomtest(correct, total).proportion_ci(confidence_level=level, method="wilson")
    return 100.0 * float(interval.low), 100.0 * float(interval.high)


def accuracy_interval(right: Tensor, groups: np.ndarray | None = None, level: float = 0.95) -> tuple[float, float]:
    """Low and high, in per cent, of the accuracy of one recogniser over test pictures.

    Args:
        right: N, bool.
        groups: N, equal where pictures belong together, as for ``paired_interval``; none, or no two: ``wilson``.
        level: How often such intervals shall hold the truth.
    """
    if groups is None or len(np.unique(groups)) == len(right):
        return wilson(int(right.sum()), len(right), level)
    _, low, high = paired_interval(right[None].double().numpy(), level, signed=False, groups=groups)
    return low, high


def paired_interval(
    differences: np.ndarray, level: float = 0.95, *, signed: bool = True, groups: np.ndarray | None = None
) -> Interval:
    """Interval of a mean over label draws *and* test pictures, each a sample of those that might have been drawn.

    Entry r i belongs to label draw r and test picture i: draws and pictures are crossed, so that entries which share a
    row or a column are no independent evidence. Under the crossed random-effects model (Searle, Casella and McCulloch,
    "Variance components", 1992, https://doi.org/10.1002/9780470316856)

        entry = mean + draw_r + picture_i + rest_ri        V(mean of R x n) = (MS_draw + MS_picture - MS_rest) / (R n)

    with the usual mean squares: one part that draws make, MS_draw / (R n), and one that pictures add. Few draws say
    little of how much draws differ, so each part has the quantile t of its own degrees of freedom (Howe, "Approximate
    confidence limits on the mean of X + Y", Journal of the American Statistical Association 69, 1974):

        half width^2 = t(R - 1)^2 MS_draw / (R n)  +  t(n - 1)^2 (MS_picture - MS_rest) / (R n)

    It is never narrower than Student's interval over the draws' own means, which holds whatever the pictures do. One
    t with pooled degrees of freedom (Satterthwaite 1946) is narrower, and with three draws that differ holds the truth
    92 % of the time instead of 95; a bootstrap of five rows (Owen 2007, https://doi.org/10.1214/07-AOAS122) knows
    nothing of t's tails. With one draw the interval is over pictures alone.

    Pictures that belong together (of one animal, or equal in every pixel) are one piece of evidence: what is sampled
    are groups then, and a group's entry is the mean and what it adds to it, G (sum of its deviations) / n, by which the
    mean stays what it was (Cochran, "Sampling techniques", 1977, section 6.2: the linearised ratio).

    Args:
        differences: R n, per label draw and test picture: right (1) or not (0) of one contender minus that of another,
            in {-1, 0, 1}; or plainly right or not, in {0, 1}.
        level: How often such intervals shall hold the truth.
        signed: Whether the mean may be negative: differences may, accuracies may not.
        groups: n, equal where test pictures belong together; none: each stands for itself.

    Returns:
        Mean, low and high in points, cut off at what is possible: -100 (0 unless ``signed``) and 100.

    Raises:
        ValueError: Where ``differences`` isn't R n with n >= 2.
    """
    entries = 100.0 * np.asarray(differences, dtype=np.float64)
    if entries.ndim != 2 or entries.shape[0] < 1 or entries.shape[1] < 2:
        raise ValueError(
            f"differences must be label draws x test pictures (1 or more x 2 or more), got {entries.shape}"
        )
    if groups is not None:
        entries = _by_group(entries, groups)
    if entries.shape[1] < 2:
        return Interval(float(entries.mean()), -100.0 if signed else 0.0, 100.0)  # one animal says nothing of others
    mean, half = float(entries.mean()), _half_width(entries, 0.5 + level / 2)
    if half < 1e-9:  # all alike: as unsure as Wilson is of so many pictures that were all right
        half = 100.0 - wilson(entries.shape[1], entries.shape[1], level)[0]
    floor = -100.0 if signed else 0.0
    return Interval(mean, max(mean - half, floor), min(mean + half, 100.0))


def _by_group(entries: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """R n -> R G: an entry a group, with the mean of each row as it was."""
    _, group = np.unique(groups, return_inverse=True)  # n, in 0..G-1
    mean = entries.mean()
    added = np.stack([np.bincount(group, row - mean) for row in entries])  # R G
    return mean + added * added.shape[1] / entries.shape[1]


def _half_width(entries: np.ndarray, quantile: float) -> float:
    """Half the width of the interval of the mean over R n entries with crossed effects."""
    rows, columns = entries.shape
    if rows == 1:
        return float(t.ppf(quantile, columns - 1) * entries.std(ddof=1) / columns**0.5)
    mean = entries.mean()
    draw, picture = entries.mean(axis=1) - mean, entries.mean(axis=0) - mean  # R, n
    rest = ((entries - mean - draw[:, None] - picture) ** 2).sum() / ((rows - 1) * (columns - 1))
    by_draw = max(columns * (draw**2).sum() / (rows - 1), rest)  # an effect's own variance is never negative
    by_picture = max(rows * (picture**2).sum() / (columns - 1) - rest, 0.0)
    squared = t.ppf(quantile, rows - 1) ** 2 * by_draw + t.ppf(quantile, columns - 1) ** 2 * by_picture
    return float((squared / (rows * columns)) ** 0.5)
