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


def paired_interval(differences: np.ndarray, level: float = 0.95, *, signed: bool = True) -> Interval:
    """Interval of a mean over label draws *and* test pictures, each a sample of those that might have been drawn.

    Entry r i belongs to label draw r and test picture i: draws and pictures are crossed, so that entries which share a
    row or a column are no independent evidence. Under the crossed random-effects model (Searle, Casella and McCulloch,
    "Variance components", 1992, https://doi.org/10.1002/9780470316856)

        entry = mean + draw_r + picture_i + rest_ri        V(mean of R x n) = (MS_draw + MS_picture - MS_rest) / (R n)

    with the usual mean squares, and Student's t with Satterthwaite's degrees of freedom
    (1946, https://doi.org/10.2307/3002019). With few draws this covers where a bootstrap of rows and columns (Owen
    2007, https://doi.org/10.1214/07-AOAS122) does not: five rows resampled know nothing of the tails that t knows.
    With one draw the interval is over pictures alone.

    Args:
        differences: R n, per label draw and test picture: right (1) or not (0) of one contender minus that of another,
            in {-1, 0, 1}; or plainly right or not, in {0, 1}.
        level: How often such intervals shall hold the truth.
        signed: Whether the mean may be negative: differences may, accuracies may not.

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
    mean, (variance, freedom) = float(entries.mean()), _variance_of_mean(entries)
    half = float(t.ppf(0.5 + level / 2, freedom)) * variance**0.5
    if not variance > 0:  # all alike: as unsure as Wilson is of so many pictures that were all right
        half = 100.0 - wilson(entries.shape[1], entries.shape[1], level)[0]
    floor = -100.0 if signed else 0.0
    return Interval(mean, max(mean - half, floor), min(mean + half, 100.0))


def _variance_of_mean(entries: np.ndarray) -> tuple[float, float]:
    """Of the mean over R n entries with crossed effects: its variance, and the degrees of freedom of that estimate."""
    rows, columns = entries.shape
    if rows == 1:
        return float(entries.var(ddof=1)) / columns, columns - 1.0
    mean = entries.mean()
    draw, picture = entries.mean(axis=1) - mean, entries.mean(axis=0) - mean  # R, n
    rest = entries - mean - draw[:, None] - picture  # R n
    freedoms = np.array([rows - 1, columns - 1, (rows - 1) * (columns - 1)])
    squares = np.array([columns * (draw**2).sum(), rows * (picture**2).sum(), (rest**2).sum()]) / freedoms
    squares[:2] = np.maximum(squares[:2], squares[2])  # an effect's own variance is never negative
    total = squares[0] + squares[1] - squares[2]
    spread = (squares**2 / freedoms).sum()
    return float(total / (rows * columns)), float(total**2 / spread) if spread > 0 else 1.0
