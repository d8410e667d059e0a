"""Label-free metrics of a backbone, computed alike for every run, and how well they order runs of known accuracy."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from headway.backbones.extract import extract_features
from headway.metrics.representation import alpha_req, effective_rank, lidar, spearman
from headway.protocol import Backbone
from headway.rng import SampleRNG
from headway.transforms.augment import simclr_augment
from headway.utils.files import read_json

MAX_IMAGES, MAX_AUGMENTED_IMAGES, NUM_VIEWS = 2000, 1000, 10
"""At most this many images are used; this many of them are augmented, into so many views each."""
REFERENCE_FILE = Path(__file__).with_name("label_free_reference.json")
"""How well these metrics order runs of known accuracy, as ``benchmarks/leaderboard.py --trust`` measured it."""


class LabelFreeMetrics(NamedTuple):
    """Metrics of a backbone that need no labels.

    Attributes:
        rankme: RankMe, the effective rank of the features; higher is better.
        lidar: LiDAR, the effective rank of the between-image scatter relative to that between views; higher is better.
        alpha: alpha-ReQ, the decay of the spectrum of features; closer to 1 is better.
    """

    rankme: float
    lidar: float
    alpha: float


HIGHER_IS_BETTER: dict[str, Callable[[LabelFreeMetrics], float]] = {
    "rankme": lambda metrics: metrics.rankme,
    "lidar": lambda metrics: metrics.lidar,
    "alpha": lambda metrics: -abs(metrics.alpha - 1),
}
"""Each metric as a number of which more is better."""


def label_free_metrics(backbone: Backbone, images: Tensor, size: int, seed: int = 0) -> LabelFreeMetrics:
    """Compute the metrics of a backbone on images without labels.

    The views are SimCLR's crops and colors for every run, whatever its pretext task, so that runs are comparable.

    Args:
        backbone: The network.
        images: N C S S, as stored; the first MAX_IMAGES are used.
        size: Side of the view in pixels.
        seed: Of the views.
    """
    features = extract_features(backbone, images[:MAX_IMAGES], size)  # N D
    sample, augment = images[:MAX_AUGMENTED_IMAGES], simclr_augment(size)
    rng = SampleRNG(seed, torch.arange(len(sample)))
    augmented = (augment(sample, rng.fold_in(f"view {i}"), size) for i in range(NUM_VIEWS))  # V of N C size size
    views = [extract_features(backbone, view, size) for view in augmented]  # V of N D
    return LabelFreeMetrics(effective_rank(features), lidar(torch.stack(views, 1)), alpha_req(features))


def rank_correlations(metrics: Sequence[LabelFreeMetrics], accuracies: Sequence[float]) -> dict[str, float | None]:
    """Spearman's rank correlation of each metric with the accuracies of the same runs; None for fewer than three."""
    return {
        name: spearman([_finite_or_lowest(score(run)) for run in metrics], list(accuracies))
        for name, score in HIGHER_IS_BETTER.items()
    }


def order_runs(metrics: Sequence[LabelFreeMetrics], by: str) -> list[int]:
    """Indices of the runs, best first by this metric."""
    return sorted(range(len(metrics)), key=lambda i: -_finite_or_lowest(HIGHER_IS_BETTER[by](metrics[i])))


def reference_correlations() -> list[dict[str, Any]]:
    """The measurements of REFERENCE_FILE: data, cpu_seconds of a run, runs, tasks, and spearman of each metric."""
    return read_json(REFERENCE_FILE)["reference"] if REFERENCE_FILE.is_file() else []


def _finite_or_lowest(value: float) -> float:
    """The value; a collapsed run has no finite decay, and comes last."""
    return value if math.isfinite(value) else -1e30
