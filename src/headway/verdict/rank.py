"""Label-free measures of a backbone, taken alike for every run, and how well they order runs of known accuracy."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headway.downstream.features import extract
from headway.draws import Draws
from headway.files import read_json
from headway.measure.collapse import effective_rank
from headway.measure.rank import decay, lidar, spearman
from headway.views.augment import simclr

PICTURES, VIEWED, VIEWS = 2000, 1000, 10
"""Pictures looked at, at most; how many of them are seen in several views, and in how many."""


MEASURED = Path(__file__).with_name("rank_measured.json")
"""How well these measures ordered runs whose probes are known; ``benchmarks/leaderboard.py --trust`` writes it."""


class LabelFree(NamedTuple):
    """What can be said of a backbone without a label.

    Attributes:
        rankme: Effective rank of the features; the more the better.
        lidar: Effective rank of what tells pictures apart beyond their views; the more the better.
        alpha: Decay of the spectrum; the nearer to 1 the better.
    """

    rankme: float
    lidar: float
    alpha: float


GOODNESS: dict[str, Callable[[LabelFree], float]] = {
    "rankme": lambda found: found.rankme,
    "lidar": lambda found: found.lidar,
    "alpha": lambda found: -abs(found.alpha - 1),
}
"""Each measure as a number of which more is better."""


def label_free(backbone: nn.Module, images: Tensor, size: int, seed: int = 0) -> LabelFree:
    """Measure a backbone on pictures without labels.

    The views are SimCLR's crops and colours for every run, whatever it was trained on, so that runs compare.

    Args:
        backbone: Any ``protocol.Backbone``.
        images: N C S S, as stored; the first ``PICTURES`` count.
        size: Side of the view in pixels.
        seed: Of the views.
    """
    features = extract(backbone, images[:PICTURES], size)  # N D
    some, augment = images[:VIEWED], simclr(size)
    draws = Draws(seed, torch.arange(len(some)))
    views = torch.stack([extract(backbone, augment(some, draws, size), size) for _ in range(VIEWS)], 1)  # N V D
    return LabelFree(effective_rank(features), lidar(views), decay(features))


def correlations(found: Sequence[LabelFree], accuracies: Sequence[float]) -> dict[str, float | None]:
    """Spearman's rank correlation of each measure with the accuracies of the same runs; None with fewer than three."""
    return {
        name: spearman([_finite(goodness(one)) for one in found], list(accuracies))
        for name, goodness in GOODNESS.items()
    }


def order(found: Sequence[LabelFree], by: str) -> list[int]:
    """Positions of the runs, the best by this measure first."""
    return sorted(range(len(found)), key=lambda i: -_finite(GOODNESS[by](found[i])))


def measured() -> list[dict[str, Any]]:
    """Where the measures were put to the test: data, processor_seconds of a run, runs, tasks, and spearman of each."""
    found: list[dict[str, Any]] = read_json(MEASURED)["measured"] if MEASURED.is_file() else []
    return found


def _finite(value: float) -> float:
    """A collapsed run has no decay to speak of and comes last."""
    return value if math.isfinite(value) else -1e30
