"""What may be claimed: helped, hurt, or cannot tell.

A *replicate* is a pretraining seed with label draws of its own, or, where there is one seed only, a label draw. All
contenders of a replicate learn from the same labels, and all are tested on the same pictures. So the difference

    difference[r, i] = right(contender, replicate r, picture i) - right(baseline, replicate r, picture i)

averaged over the draws of r holds seeds and draws as one effect of r, crossed with pictures, and ``paired_interval``
covers all three. Draws that differ from seed to seed cost nothing and cover more labels than draws that recur.

Many contenders, one claim: the best on held-out folds is claimed on the test pictures. A lucky seed or draw raises
folds and test alike, though, so that the winner's luck would be claimed with it. Hence replicate r is judged by the
contender that the folds of the *other half* of the replicates choose (cross-fitting; Varma and Simon, "Bias in error
estimation when using cross-validation for model selection", 2006, https://doi.org/10.1186/1471-2105-7-91).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from headway.measure.metrics import paired_interval

Verdict = Literal["helped", "hurt", "cannot tell"]
Table = Mapping[str, np.ndarray]


class Claim(NamedTuple):
    """One claim, in points of per cent.

    Attributes:
        points: What the chosen contender gains on the test pictures.
        low: Lower end of the 95 % interval.
        high: Upper end.
        verdict: helped where the interval lies above zero, hurt where below, else cannot tell.
        below: Half the width of the interval: gains smaller than this are not seen with so much evidence.
        contender: The contender that all folds together choose.
        chosen: For each replicate the contender that the folds of the other half choose, by which it is judged. Where
            they differ, ``points`` belongs to all of them.
    """

    points: float
    low: float
    high: float
    verdict: Verdict
    below: float
    contender: str
    chosen: tuple[str, ...]


def replicates(right: np.ndarray) -> np.ndarray:
    """Seeds x draws x n, right (1) or not (0) -> replicates x n: seeds, or the draws of the only seed.

    Raises:
        ValueError: Another number of axes.
    """
    right = np.asarray(right, dtype=np.float64)
    if right.ndim != 3:
        raise ValueError(f"expected seeds x draws x test pictures, got {right.shape}")
    return right[0] if len(right) == 1 else right.mean(axis=1)


def verdict_of(low: float, high: float) -> Verdict:
    """What an interval of a gain says."""
    return "helped" if low > 0 else "hurt" if high < 0 else "cannot tell"


def best_on_folds(folds: Table, rows: Sequence[int]) -> str:
    """The contender that was right most often on the held-out folds of some replicates; the first named of equals."""
    return max(folds, key=lambda name: float(np.mean(folds[name][list(rows)])))


def cross_fitted(right: Table, folds: Table) -> tuple[tuple[str, ...], np.ndarray]:
    """For each replicate the contender that folds of the other half choose, and what it named rightly: R n.

    Args:
        right: For each contender R n.
        folds: For each contender that may be chosen R.
    """
    everyone = range(len(next(iter(folds.values()))))
    halves = [[r for r in everyone if r % 2 == side] for side in (0, 1)]
    chosen = tuple(best_on_folds(folds, halves[1 - r % 2] or halves[0]) for r in everyone)
    return chosen, np.stack([right[name][r] for r, name in enumerate(chosen)])


def claim(right: Table, folds: Table, baseline: str, level: float = 0.95, groups: np.ndarray | None = None) -> Claim:
    """The one claim that a comparison may end in.

    Args:
        right: For each contender and the baseline R n, the share of a replicate's draws that were right (0 to 1).
        folds: For each contender that may be chosen R: the share that was right on held-out folds of training labels.
        baseline: The name in ``right`` that gains are counted from.
        level: How often such intervals shall hold the truth.
        groups: n, equal where test pictures belong together, as for ``paired_interval``.
    """
    chosen, best = cross_fitted(right, folds)
    mean, low, high = paired_interval(best - right[baseline], level, groups=groups)
    winner = best_on_folds(folds, range(len(chosen)))
    return Claim(mean, low, high, verdict_of(low, high), max(mean - low, high - mean), winner, chosen)


def leaderboard(
    right: Table, baseline: str, level: float = 0.95, groups: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """A row for every contender, best first: name, accuracy, low, high, and its gain over the baseline, paired.

    These intervals are each contender's own; the best of them is no claim (see ``claim``).
    """
    rows = []
    for name, table in right.items():
        accuracy = paired_interval(table, level, signed=False, groups=groups)
        row: dict[str, Any] = {"name": name, "accuracy": accuracy.mean, "low": accuracy.low, "high": accuracy.high}
        if name == baseline:
            row["gain"] = None
        else:
            points, low, high = paired_interval(table - right[baseline], level, groups=groups)
            row["gain"] = {"points": points, "low": low, "high": high}
        rows.append(row)
    return sorted(rows, key=lambda row: -row["accuracy"])


def sentence(found: Claim, baseline: str, labels: str) -> str:
    """The claim in plain words.

    Args:
        found: The claim.
        baseline: What it was compared with ("training from scratch").
        labels: How many labels ("10 labels a class").
    """
    who = " or ".join(sorted(set(found.chosen), key=lambda name: (name != found.contender, name)))
    numbers = f"{found.points:+.1f} points"
    interval = f"95 %: {found.low:.1f} to {found.high:.1f}"
    against = f"over {baseline} at {labels}"
    if found.verdict != "cannot tell":
        return f"{who} {found.verdict}: {numbers} ({interval}) {against}"
    return (
        f"cannot tell below {found.below:.1f} points: more labels or seeds would "
        f"({who}: {numbers}, {interval}, {against})"
    )
