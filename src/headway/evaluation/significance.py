"""The claim of a comparison: pretraining helped, it hurt, or the data cannot tell.

A *replicate* is a pretraining seed with label draws of its own, or, where there is one seed only, a label draw. All
methods of a replicate learn from the same labels, and all are tested on the same images. So the difference

    difference[r, i] = correct(method, replicate r, image i) - correct(baseline, replicate r, image i)

averaged over the draws of r holds seeds and draws as one effect of r, crossed with images, and ``paired_interval``
covers all three. Draws that differ from seed to seed cost nothing, and cover more labels than draws that recur.

There are many methods and one claim: the method that is best on held-out folds is tested on the test images. But a
favorable seed or draw raises the accuracy on folds and on test images alike, so that the selection would bias the
claim. Hence replicate r is tested with the method that the folds of the *other half* of the replicates select
(cross-fitting; Varma and Simon, "Bias in error estimation when using cross-validation for model selection", 2006,
https://doi.org/10.1186/1471-2105-7-91).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from headway.metrics.intervals import paired_interval

Verdict = Literal["helped", "hurt", "cannot tell"]
MethodTable = Mapping[str, np.ndarray]


class Claim(NamedTuple):
    """One claim, in points of percent.

    Attributes:
        points: The gain of the selected method on the test images.
        low: Lower end of the 95 % interval.
        high: Upper end.
        verdict: helped where the interval lies above zero, hurt where it lies below, else cannot tell.
        half_width: Half the width of the interval: smaller gains cannot be detected with so much data.
        method: The method that all folds together select.
        chosen_methods: For each replicate the method that the folds of the other half select, and that it is tested
            with. Where these differ, ``points`` belongs to all of them.
    """

    points: float
    low: float
    high: float
    verdict: Verdict
    half_width: float
    method: str
    chosen_methods: tuple[str, ...]


def replicates(correct: np.ndarray) -> np.ndarray:
    """Seeds x draws x n, correct (1) or not (0) -> replicates x n: seeds, or the draws of the only seed.

    Raises:
        ValueError: Another number of axes.
    """
    correct = np.asarray(correct, dtype=np.float64)
    if correct.ndim != 3:
        raise ValueError(f"expected seeds x draws x test images, got {correct.shape}")
    return correct[0] if len(correct) == 1 else correct.mean(axis=1)


def verdict_from_interval(low: float, high: float) -> Verdict:
    """The verdict that the interval of a gain allows."""
    return "helped" if low > 0 else "hurt" if high < 0 else "cannot tell"


def best_on_folds(fold_accuracy: MethodTable, replicate_indices: Sequence[int]) -> str:
    """The method with the highest accuracy on the held-out folds of some replicates; the first one of equals."""
    return max(fold_accuracy, key=lambda name: float(np.mean(fold_accuracy[name][list(replicate_indices)])))


def cross_fit_selection(correct: MethodTable, fold_accuracy: MethodTable) -> tuple[tuple[str, ...], np.ndarray]:
    """For each replicate the method that the folds of the other half select, and its results: R n.

    Args:
        correct: For each method R n.
        fold_accuracy: For each method that may be selected R.
    """
    every = range(len(next(iter(fold_accuracy.values()))))
    halves = [[r for r in every if r % 2 == half] for half in (0, 1)]
    chosen = tuple(best_on_folds(fold_accuracy, halves[1 - r % 2] or halves[0]) for r in every)
    return chosen, np.stack([correct[name][r] for r, name in enumerate(chosen)])


def make_claim(
    correct: MethodTable, fold_accuracy: MethodTable, baseline: str, groups: np.ndarray | None = None
) -> Claim:
    """The one claim of a comparison.

    Args:
        correct: For each method and the baseline R n, the share of a replicate's draws with a correct answer (0 to 1).
        fold_accuracy: For each method that may be selected R: the accuracy on held-out folds of training labels.
        baseline: The name in ``correct`` over which gains are computed.
        groups: n, the groups of test images, as for ``paired_interval``.
    """
    chosen, best = cross_fit_selection(correct, fold_accuracy)
    mean, low, high = paired_interval(best - correct[baseline], groups=groups)
    method = best_on_folds(fold_accuracy, range(len(chosen)))
    return Claim(mean, low, high, verdict_from_interval(low, high), max(mean - low, high - mean), method, chosen)


def leaderboard(correct: MethodTable, baseline: str, groups: np.ndarray | None = None) -> list[dict[str, Any]]:
    """A row for every method, best first: name, accuracy, low, high, and its paired gain over the baseline.

    Each interval is that of its own method; the best of them is no claim (see ``make_claim``).
    """
    rows: list[dict[str, Any]] = []
    for name, table in correct.items():
        accuracy, low, high = paired_interval(table, signed=False, groups=groups)
        rows.append({"name": name, "accuracy": accuracy, "low": low, "high": high, "gain": None})
        if name != baseline:
            points, low, high = paired_interval(table - correct[baseline], groups=groups)
            rows[-1]["gain"] = {"points": points, "low": low, "high": high}
    return sorted(rows, key=lambda row: -row["accuracy"])


def claim_sentence(claim: Claim, baseline: str, labels: str) -> str:
    """The claim as a sentence.

    Args:
        claim: The claim.
        baseline: What the method was compared with ("training from scratch").
        labels: How many labels ("10 labels per class").
    """
    methods = " or ".join(sorted(set(claim.chosen_methods), key=lambda name: (name != claim.method, name)))
    points = f"{claim.points:+.1f} points"
    interval = f"95 %: {claim.low:.1f} to {claim.high:.1f}"
    against = f"over {baseline} at {labels}"
    if claim.verdict != "cannot tell":
        return f"{methods} {claim.verdict}: {points} ({interval}) {against}"
    return (
        f"cannot tell below {claim.half_width:.1f} points: more labels or seeds would "
        f"({methods}: {points}, {interval}, {against})"
    )


def claim_to_dict(claim: Claim, baseline: str, labels: str) -> dict[str, Any]:
    """The claim as plain data: gain, verdict, sentence; arguments as for ``claim_sentence``."""
    return {
        "gain": {"points": claim.points, "low": claim.low, "high": claim.high, "method": claim.method},
        "verdict": claim.verdict,
        "sentence": claim_sentence(claim, baseline, labels),
    }
