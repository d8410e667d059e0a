"""``cluster``: k-means clusters of the images, with and without pretraining, compared with their classes."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from headway.api.result import Result
from headway.utils.checks import check_at_least
from headway.utils.notes import note_skipped
from headway.utils.progress import ProgressCallback, stage_progress

if TYPE_CHECKING:
    from headway.data.sources.base import DataLike
    from headway.metrics.clustering import ClusteringScores

MAX_IMAGES = 5000
"""Images clustered at most, evenly spaced over the data."""


@dataclass(frozen=True, repr=False)
class ClusterResult(Result):
    """How well clusters agree with classes."""

    rows: list[dict[str, Any]]
    """Of each kind of features: name, nmi, ari, accuracy in percent, accuracy_std (over repeats; None: of one)."""
    clusters: int
    """As many as there are classes."""
    images: int
    """Images that were clustered."""
    repeats: int
    """Repetitions."""


def cluster(
    run: str,
    *,
    data: DataLike,
    repeats: int = 3,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> ClusterResult:
    """Cluster images by k-means on raw pixels, untrained and pretrained features; compare clusters with classes.

    Example: headway cluster runs/photos --data labeled

    Args:
        run: A run folder that ``headway pretrain`` wrote, a weights file, or timm:NAME (timm fetches its weights).
        data: Labeled images; labels only score the clusters, k-means does not see them.
        repeats: Repetitions, each with other initial centers (and another untrained network).
        seed: Seed of the first repetition.
        progress: Called with the progress of each stage; none: silent.
    """
    from headway.data.dataset.image_store import build_store
    from headway.data.dataset.subset import evenly_spaced_indices
    from headway.data.open import open_source
    from headway.downstream.head_swap import load_run
    from headway.errors import HeadwayError
    from headway.evaluation.cluster import cluster_images

    check_at_least(1, repeats=repeats)
    pretrained, _ = load_run(run)
    source = open_source(data, labeled=True, backbone=pretrained)
    indices = evenly_spaced_indices(len(source), MAX_IMAGES)
    store = build_store(source, pretrained.image_size, indices=indices, progress=stage_progress(progress, "decoding"))
    note_skipped(store.skipped)
    labels = store.labels
    if labels is None or len(labels.unique()) < 2:
        raise HeadwayError("one-class", "the readable images have fewer than two classes to compare clusters with")
    report = stage_progress(progress, "clustering")
    scores = cluster_images(pretrained, store.images, labels, repeats=repeats, seed=seed, progress=report)
    rows = [_row(name, found) for name, found in scores.items()]
    return ClusterResult(rows, len(labels.unique()), len(labels), repeats)


def _row(name: str, scores: list[ClusteringScores]) -> dict[str, Any]:
    accuracies = [score.accuracy for score in scores]
    return {
        "name": name, "nmi": mean(score.nmi for score in scores), "ari": mean(score.ari for score in scores),
        "accuracy": mean(accuracies), "accuracy_std": stdev(accuracies) if len(scores) > 1 else None,
    }  # fmt: skip
