"""Accuracy and its confidence intervals, all in per cent or in points of per cent."""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit
from torch import Tensor

QUANTILE = 0.975
"""Of Student's t: the upper end of an interval of 95 %."""


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval, in per cent or points."""

    mean: float
    low: float
    high: float


def accuracy(correct: Tensor) -> float:
    """Per cent of images that are classified correctly; ``correct`` is N, bool."""
    return 100.0 * float(correct.double().mean())


def balanced_accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Per cent correct of each class that occurs in ``labels``, averaged over classes; both N, int64."""
    truth = labels.cpu().numpy()
    from sklearn.metrics import recall_score  # imported late: it takes a second

    return 100.0 * float(recall_score(truth, predicted.cpu().numpy(), labels=np.unique(truth), average="macro"))


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Confidence interval of the accuracy of one classifier over test images: low and high in per cent.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927
    (https://doi.org/10.1080/01621459.1927.10502953): it keeps its coverage near 0 and 100 % too.

    Raises:
        ValueError: Unless 0 <= correct <= total and total >= 1.
    """
    from scipy.stats import binomtest  # imported late: it takes a second

    interval = binomtest(correct, total).proportion_ci(method="wilson")
    return 100.0 * float(interval.low), 100.0 * float(interval.high)


def accuracy_interval(correct: Tensor, groups: np.ndarray | None) -> tuple[float, float]:
    """Low and high, in per cent, of the accuracy of one classifier over test images.

    Args:
        correct: N, bool.
        groups: N, equal for images of one group, as for ``paired_interval``; where it is None or all groups have one
            image, the interval is ``wilson_interval``.
    """
    if groups is None or len(np.unique(groups)) == len(correct):
        return wilson_interval(int(correct.sum()), len(correct))
    return paired_interval(correct[None].double().numpy(), signed=False, groups=groups)[1:]


def paired_interval(differences: np.ndarray, *, signed: bool = True, groups: np.ndarray | None = None) -> Interval:
    """95 % interval of a mean over label draws *and* test images, each of which is a sample of a larger population.

    Entry r i belongs to label draw r and test image i. Draws and images are crossed, so entries that share a row or a
    column are not independent. Under the crossed random-effects model (Searle, Casella and McCulloch,
    "Variance components", 1992, https://doi.org/10.1002/9780470316856)

        entry = mean + draw_r + image_i + rest_ri          V(mean of R x n) = (MS_draw + MS_image - MS_rest) / (R n)

    with the usual mean squares: draws contribute MS_draw / (R n), images the rest. Few draws estimate the
    variance of draws poorly, so each part has the quantile t of its own degrees of freedom (Howe, "Approximate
    confidence limits on the mean of X + Y", Journal of the American Statistical Association 69, 1974):

        half width^2 = t(R - 1)^2 MS_draw / (R n)  +  t(n - 1)^2 (MS_image - MS_rest) / (R n)

    It is never narrower than Student's interval over the draws' own means, which is valid whatever the images do.
    One t with pooled degrees of freedom (Satterthwaite 1946) is narrower; with three draws that differ it contains the
    true value 92 % of the time instead of 95. A bootstrap of five rows (Owen 2007,
    https://doi.org/10.1214/07-AOAS122) ignores the tails of t. With one draw the interval covers images alone.

    Images of one group (one animal, or equal in every pixel) are one observation, so groups are sampled. The entry of a
    group is the mean plus G (sum of the group's deviations) / n, which leaves the mean unchanged (Cochran, "Sampling
    techniques", 1977, section 6.2: the linearized ratio).

    Args:
        differences: R n, per label draw and test image: correct (1) or not (0) of one method minus that of another, in
            {-1, 0, 1}; or correct or not of one method, in {0, 1}.
        signed: Whether the mean can be negative: that of differences can, an accuracy cannot.
        groups: n, equal for test images of one group. None: each image is its own group.

    Returns:
        Mean, low and high in points, clipped to the possible range: -100 (0 unless ``signed``) and 100.

    Raises:
        ValueError: ``differences`` is not R n with n >= 2.
    """
    entries = 100.0 * np.asarray(differences, dtype=np.float64)
    if entries.ndim != 2 or entries.shape[0] < 1 or entries.shape[1] < 2:
        raise ValueError(f"differences must be label draws x test images (1 or more x 2 or more), got {entries.shape}")
    if groups is not None:
        entries = _group_entries(entries, groups)
    mean, floor, count = float(entries.mean()), -100.0 if signed else 0.0, entries.shape[1]
    if count < 2:  # one group does not show how groups differ
        return Interval(mean, floor, 100.0)
    half = _half_width(entries)
    if half < 1e-9:  # no variance: as wide as Wilson's interval for so many images, all correct
        half = 100.0 - wilson_interval(count, count)[0]
    return Interval(mean, max(mean - half, floor), min(mean + half, 100.0))


def _group_entries(entries: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """R n -> R G: one entry per group; the mean of each row is unchanged."""
    _, group = np.unique(groups, return_inverse=True)  # n, in 0..G-1
    mean = entries.mean()
    sums = np.stack([np.bincount(group, row - mean) for row in entries])  # R G
    return mean + sums * sums.shape[1] / entries.shape[1]


def _half_width(entries: np.ndarray) -> float:
    """Half the width of the interval of the mean of R n entries with crossed effects."""
    rows, columns = entries.shape
    if rows == 1:
        return float(stdtrit(columns - 1, QUANTILE) * entries.std(ddof=1) / columns**0.5)
    mean = entries.mean()
    draw, image = entries.mean(axis=1) - mean, entries.mean(axis=0) - mean  # R, n
    rest = ((entries - mean - draw[:, None] - image) ** 2).sum() / ((rows - 1) * (columns - 1))
    by_draw = max(columns * (draw**2).sum() / (rows - 1), rest)  # an effect's own variance is never negative
    by_image = max(rows * (image**2).sum() / (columns - 1) - rest, 0.0)
    squared = stdtrit(rows - 1, QUANTILE) ** 2 * by_draw + stdtrit(columns - 1, QUANTILE) ** 2 * by_image
    return float((squared / (rows * columns)) ** 0.5)
