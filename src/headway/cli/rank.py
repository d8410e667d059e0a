"""``headway rank``: order runs without labels, and report how reliable such an order is."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from rich.table import Table
from torch import Tensor
from tyro.conf import Positional

from headway.backbones.input_size import STORAGE_SCALE, storage_side
from headway.cli.console import print_line, print_note, print_skipped, print_table, progress_bar
from headway.data.dataset.image_store import build_store, median_short_side
from headway.data.dataset.subset import evenly_spaced_indices
from headway.data.decoding.pixel_format import PixelFormat, pixel_format_of
from headway.data.open import open_source, open_test_source
from headway.data.sources.base import DataLike, Source
from headway.downstream.head_swap import input_size, load_run
from headway.downstream.heads.registry import HEADS
from headway.downstream.labeled_split import LabeledSplit, load_labeled_split
from headway.downstream.transfer import train_classifier
from headway.errors import HeadwayError
from headway.evaluation.label_free import (
    MAX_IMAGES,
    LabelFreeMetrics,
    label_free_metrics,
    order_runs,
    rank_correlations,
    reference_correlations,
)
from headway.metrics.intervals import accuracy, accuracy_interval


def rank(
    runs: Positional[list[str]],
    *,
    data: DataLike,
    labeled: DataLike | None = None,
    test: DataLike | None = None,
    by: Literal["lidar", "rankme", "alpha"] = "lidar",
    seed: int = 0,
) -> dict[str, Any]:
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

    Returns:
        rows (run, rankme, lidar, alpha, accuracy, low, high), best first; by; correlations (Spearman's, of each metric
        with the accuracy of the probe; null without labels or with fewer than three runs); n (number of runs);
        reference (the same correlations over the runs of Headway's leaderboard).
    """
    if not runs:
        raise HeadwayError("give at least one run: headway rank RUN ... --data IMAGES")
    backbones: list[Any] = [load_run(run)[0] for run in runs]
    embed_dims = {backbone.embed_dim for backbone in backbones}
    if len(embed_dims) > 1:
        dims = ", ".join(map(str, sorted(embed_dims)))
        print_note(f"these runs have features of {dims} dimensions; metrics are comparable within one dimension only")
    largest = max(map(input_size, backbones))
    images = dict[PixelFormat, Tensor]()  # runs may have been trained on different pixel formats
    for backbone in backbones:
        if (pixel_format := pixel_format_of(backbone.input_spec)) not in images:
            images[pixel_format] = _load_images(open_source(data, backbone=backbone), largest)
    metrics: list[LabelFreeMetrics] = []
    with progress_bar("measuring runs") as progress:
        for backbone in backbones:
            own_images = images[pixel_format_of(backbone.input_spec)]
            metrics.append(label_free_metrics(backbone, own_images, input_size(backbone), seed))
            progress(len(metrics), len(runs))
    probes = _linear_probe_accuracies(backbones, labeled, test, seed) if labeled is not None else [{}] * len(runs)
    return {
        "rows": [
            {"run": str(runs[i]), "rankme": metrics[i].rankme, "lidar": metrics[i].lidar,
             "alpha": metrics[i].alpha if math.isfinite(metrics[i].alpha) else None, **probes[i]}
            for i in order_runs(metrics, by)
        ],
        "by": by,
        "correlations": None if labeled is None else rank_correlations(metrics, [p["accuracy"] for p in probes]),
        "n": len(runs),
        "reference": reference_correlations(),
    }  # fmt: skip


def print_result(result: dict[str, Any]) -> None:
    """Print the order, and how reliable it is."""
    has_labels = result["correlations"] is not None
    table = Table("")
    table.add_column("run", overflow="fold")
    for column in ("LiDAR", "RankMe", "alpha", *(("linear probe, %", "95 %") if has_labels else ())):
        table.add_column(column, no_wrap=True)
    for i, row in enumerate(result["rows"], 1):
        alpha = "-" if row["alpha"] is None else f"{row['alpha']:.2f}"
        probe = [f"{row['accuracy']:.1f}", f"{row['low']:.1f} to {row['high']:.1f}"] if has_labels else []
        table.add_row(str(i), row["run"], f"{row['lidar']:.1f}", f"{row['rankme']:.1f}", alpha, *probe)
    print_table(table)
    print_line(f"Best first by {result['by']}. LiDAR and RankMe: higher is better; alpha: nearer to 1.")
    for row in result["reference"]:
        where = f"{row['data']}, {row['cpu_seconds']:g} CPU seconds per run, {row['tasks']} tasks"
        print_line(f"Measured on {where}: {correlation_sentence(row['spearman'], row['runs'])}")
    if has_labels:
        print_line("Here: " + correlation_sentence(result["correlations"], result["n"]))


def correlation_sentence(spearman: dict[str, float | None], num_runs: int) -> str:
    """How well the metrics order runs of known accuracy."""
    if all(value is None for value in spearman.values()):
        return f"{num_runs} runs are too few, or too similar, to measure how well these metrics order them."
    numbers = ", ".join(f"{name} {value:+.2f}" for name, value in spearman.items() if value is not None)
    chance = min(1.96 / (num_runs - 1) ** 0.5, 1.0)
    return (
        f"Spearman's rank correlation with the linear probe over {num_runs} runs: {numbers} (of alpha's nearness to "
        f"1). By chance it lies within {chance:.2f} of 0 in 95 of 100 cases."
    )


def _load_images(source: Source, size: int) -> Tensor:
    """At most ``MAX_IMAGES``, evenly spaced, stored larger than the crops of this size: N C S S."""
    with progress_bar("decoding") as progress:
        side = storage_side(median_short_side(source)[0], size, STORAGE_SCALE)
        store = build_store(source, side, indices=evenly_spaced_indices(len(source), MAX_IMAGES), progress=progress)
    print_skipped(store.skipped)
    if len(store.images) < 10:
        raise HeadwayError(f"{len(store.images)} images are too few for a spectrum; give about a thousand")
    return store.images


def _linear_probe_accuracies(
    backbones: Sequence[Any], labeled: DataLike, test: DataLike | None, seed: int
) -> list[dict[str, float]]:
    """Accuracy of a linear probe on each backbone, with its interval over test images."""
    accuracies, splits = [], dict[tuple[int, PixelFormat], LabeledSplit]()
    with progress_bar("probing") as progress:
        for done, backbone in enumerate(backbones, 1):
            size = input_size(backbone)
            key = size, pixel_format_of(backbone.input_spec)
            if key not in splits:
                source = open_source(labeled, labeled=True, backbone=backbone)
                test_source = open_test_source(test, backbone=backbone)
                splits[key] = load_labeled_split(source, test_source, size, seed=seed)
                print_skipped(splits[key].skipped)
            split = splits[key]
            if not len(split.test_labels):
                raise HeadwayError("no images are left to test on; label more, or give --test")
            classifier, _ = train_classifier(backbone, split.training_set(size), HEADS["linear"], seed=seed)
            correct = classifier.predict_proba(split.test_images).argmax(1) == split.test_labels
            low, high = accuracy_interval(correct, split.interval_groups())
            accuracies.append({"accuracy": accuracy(correct), "low": low, "high": high})
            progress(done, len(backbones))
    return accuracies
