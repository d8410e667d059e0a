"""``headway cluster``: k-means clusters of the images, with and without pretraining, compared with their classes."""

from statistics import mean, stdev
from typing import Any

from rich.table import Table
from tyro.conf import Positional

from headway.cli.console import check_at_least, print_line, print_skipped, print_table, progress_bar
from headway.data.dataset.image_store import build_store
from headway.data.dataset.subset import evenly_spaced_indices
from headway.data.open import open_source
from headway.data.sources.base import DataLike
from headway.downstream.head_swap import input_size, load_run
from headway.errors import HeadwayError
from headway.evaluation.cluster import cluster_images
from headway.metrics.clustering import ClusteringScores

MAX_IMAGES = 5000
"""Images clustered at most, evenly spaced over the data."""


def cluster(
    run: Positional[str], *, data: DataLike, repeats: int = 3, seed: int = 0
) -> dict[str, Any]:  # fmt: skip
    """Cluster images by k-means on raw pixels, untrained and pretrained features; compare clusters with classes.

    Example: headway cluster runs/photos --data labeled

    Args:
        run: A run folder that ``headway pretrain`` wrote, a weights file, or timm:NAME (timm fetches its weights).
        data: Labeled images; labels only score the clusters, k-means does not see them.
        repeats: Repetitions, each with other initial centers (and another untrained network).
        seed: Seed of the first repetition.

    Returns:
        rows (name, nmi, ari, accuracy in percent, accuracy_std: standard deviation over repeats), clusters, images,
        repeats.
    """
    check_at_least(1, repeats=repeats)
    pretrained, _ = load_run(run)
    size = input_size(pretrained)
    source = open_source(data, labeled=True, backbone=pretrained)
    with progress_bar("decoding") as progress:
        store = build_store(source, size, indices=evenly_spaced_indices(len(source), MAX_IMAGES), progress=progress)
    print_skipped(store.skipped)
    labels = store.labels
    if labels is None or len(labels.unique()) < 2:
        raise HeadwayError("the readable images have fewer than two classes to compare clusters with")
    num_classes = len(labels.unique())
    with progress_bar("clustering") as progress:
        scores = cluster_images(pretrained, store.images, labels, repeats=repeats, seed=seed, progress=progress)
    rows = [_row(name, found) for name, found in scores.items()]
    return {"rows": rows, "clusters": num_classes, "images": len(labels), "repeats": repeats}


def print_result(result: dict[str, Any]) -> None:
    """Print the table."""
    table = Table("k-means on", "NMI", "ARI", "accuracy, %")
    for row in result["rows"]:
        std = f" ± {row['accuracy_std']:.1f}" if row["accuracy_std"] is not None else ""
        table.add_row(row["name"], f"{row['nmi']:.3f}", f"{row['ari']:.3f}", f"{row['accuracy']:.1f}{std}")
    print_table(table)
    print_line(
        f"{result['images']:,} images in {result['clusters']} clusters, as many as there are classes; mean (and "
        f"standard deviation) over {result['repeats']} repeats. K-means used no label. Accuracy: with the best "
        f"one-to-one assignment of clusters to classes; for classes of equal size, chance is slightly above "
        f"{100 / result['clusters']:.1f} %."
    )


def _row(name: str, scores: list[ClusteringScores]) -> dict[str, Any]:
    accuracies = [score.accuracy for score in scores]
    return {
        "name": name, "nmi": mean(score.nmi for score in scores), "ari": mean(score.ari for score in scores),
        "accuracy": mean(accuracies), "accuracy_std": stdev(accuracies) if len(scores) > 1 else None,
    }  # fmt: skip
