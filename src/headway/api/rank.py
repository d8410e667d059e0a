"""``rank``: order runs without labels, and report how reliable such an order is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from headway.api.result import Result
from headway.utils.notes import note, note_skipped
from headway.utils.progress import ProgressCallback, stage_progress

if TYPE_CHECKING:
    from headway.data.sources.base import DataLike


@dataclass(frozen=True, repr=False)
class RankResult(Result):
    """Runs in the order of a metric."""

    rows: list[dict[str, Any]]
    """Best first: run, rankme, lidar, alpha, and with labels accuracy, low, high."""
    by: str
    """The metric."""
    correlations: dict[str, float | None] | None
    """Spearman's, of each metric with the accuracy of a probe; None without labels or with fewer than three runs."""
    n: int
    """Runs."""
    reference: list[dict[str, Any]]
    """The same correlations over the runs of Headway's leaderboard."""


def rank(
    runs: list[str],
    *,
    data: DataLike,
    labeled: DataLike | None = None,
    test: DataLike | None = None,
    by: Literal["lidar", "rankme", "alpha"] = "lidar",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> RankResult:
    """Order runs without labels, by the spectrum of their features. The order is a hint, no measure of accuracy.

    Example: headway rank runs/a runs/b runs/c --data photos

    Args:
        runs: Run folders that ``headway pretrain`` wrote, weights files, or timm:NAME.
        data: Images; labels are not used. 2,000 images, evenly spaced over the data, are enough.
        labeled: Labeled images, where there are any: a linear probe then measures how well the order is right.
        test: Images to test the probe on; none: a stratified fifth of the labeled images is held out.
        by: lidar (effective rank of what distinguishes images beyond their views), rankme (effective rank of the
            features), or alpha (decay of their spectrum; best near 1). Compare runs of one embed_dim.
        seed: Seed of views and splits.
        progress: Called with the progress of each stage; none: silent.
    """
    from headway.data.decoding.pixel_format import pixel_format_of
    from headway.data.open import open_source
    from headway.downstream.head_swap import load_run
    from headway.errors import HeadwayError
    from headway.evaluation.label_free import label_free_metrics, order_runs, rank_correlations, reference_correlations
    from headway.evaluation.rank import linear_probe_accuracies, load_rank_images

    if not runs:
        raise HeadwayError("missing-argument", "give at least one run: headway rank RUN ... --data IMAGES")
    backbones: list[Any] = [load_run(run)[0] for run in runs]
    embed_dims = {backbone.embed_dim for backbone in backbones}
    if len(embed_dims) > 1:
        dims = ", ".join(map(str, sorted(embed_dims)))
        note(f"these runs have features of {dims} dimensions; metrics are comparable within one dimension only")
    largest = max(backbone.image_size for backbone in backbones)
    images: dict[Any, Any] = {}  # by pixel format, since runs may have been trained on different ones
    for backbone in backbones:
        if (pixel_format := pixel_format_of(backbone.input_spec)) not in images:
            store = load_rank_images(
                open_source(data, backbone=backbone), largest, stage_progress(progress, "decoding")
            )
            note_skipped(store.skipped)
            images[pixel_format] = store.images
    metrics, report = [], stage_progress(progress, "measuring runs")
    for backbone in backbones:
        own_images = images[pixel_format_of(backbone.input_spec)]
        metrics.append(label_free_metrics(backbone, own_images, backbone.image_size, seed))
        report(len(metrics), len(runs))
    probes: list[dict[str, float]] = [{}] * len(runs)
    if labeled is not None:
        probes = linear_probe_accuracies(backbones, labeled, test, seed, stage_progress(progress, "probing"))
    rows = [
        {"run": str(runs[i]), "rankme": metrics[i].rankme, "lidar": metrics[i].lidar,
         "alpha": metrics[i].alpha if math.isfinite(metrics[i].alpha) else None, **probes[i]}
        for i in order_runs(metrics, by)
    ]  # fmt: skip
    correlations = None if labeled is None else rank_correlations(metrics, [p["accuracy"] for p in probes])
    return RankResult(rows, by, correlations, len(runs), reference_correlations())
