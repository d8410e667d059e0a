"""``headway cluster``: what unsupervised learning alone makes of the pictures, with and without pretraining."""

from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import Tensor
from tyro.conf import Positional

from headway.cli.screen import counting, name_skipped
from headway.data.open import open_source
from headway.data.source import Source, evenly
from headway.data.store import build_store
from headway.downstream.features import extract
from headway.downstream.swap import load_run, view_size
from headway.errors import HeadwayError
from headway.measure.cluster import Agreement, agreement, kmeans
from headway.verdict.trial import PIXEL, UNTRAINED, fresh, raw_pixels

MOST = 5000
"""Pictures looked at, at most, evenly spread."""
PRETRAINED = "pretrained"


def cluster(
    run: Positional[str], *, data: str | Path | Source, repeats: int = 3, seed: int = 0
) -> dict[str, Any]:  # fmt: skip
    """Cluster pictures by k-means on raw pixels, untrained and pretrained features; compare clusters with classes.

    Example: headway cluster runs/photos --data labelled

    Args:
        run: A run folder that ``headway pretrain`` wrote, a file of weights, or timm:NAME (timm fetches its weights).
        data: Labelled pictures; labels are used to judge the clusters, never to find them.
        repeats: How often everything is done, each time with other starts (and another untrained network).
        seed: Of the first time.

    Returns:
        rows (name, nmi, ari, accuracy in per cent, spread: deviation of the accuracy over repeats), clusters, pictures.
    """
    if repeats < 1:
        raise HeadwayError(f"--repeats must be 1 or more, got {repeats}")
    pretrained, _ = load_run(run)
    size = view_size(pretrained)
    source = open_source(data, labelled=True, like=pretrained)
    with counting("decoding") as progress:
        store = build_store(source, size, indices=evenly(len(source), MOST), progress=progress)
    name_skipped(store.skipped)
    labels = store.labels
    if labels is None or len(labels.unique()) < 2:
        raise HeadwayError("the pictures that could be read are of fewer than two classes; there is nothing to compare")
    kinds = len(labels.unique())

    def features(name: str, number: int) -> Tensor:
        return fixed[name] if name in fixed else extract(fresh(pretrained, number), store.images, size)  # N D

    rows: list[dict[str, Any]] = []
    names = (PIXEL, UNTRAINED, PRETRAINED)
    fixed = {PIXEL: raw_pixels(store.images), PRETRAINED: extract(pretrained, store.images, size)}
    with counting("clustering") as progress:
        for name in names:
            found: list[Agreement] = []
            for number in range(seed, seed + repeats):
                found.append(agreement(kmeans(features(name, number), kinds, number), labels))
                progress(len(rows) * repeats + len(found), len(names) * repeats)
            rows.append(_row(name, found))
    return {"rows": rows, "clusters": kinds, "pictures": len(labels), "repeats": repeats}


def show(answer: dict[str, Any]) -> None:
    """Print the table."""
    console = Console(highlight=False, markup=False)
    table = Table("k-means on", "NMI", "ARI", "matched, %")
    for row in answer["rows"]:
        spread = f" ± {row['spread']:.1f}" if row["spread"] is not None else ""
        table.add_row(row["name"], f"{row['nmi']:.3f}", f"{row['ari']:.3f}", f"{row['accuracy']:.1f}{spread}")
    console.print(table)
    console.print(
        f"{answer['pictures']:,} pictures in {answer['clusters']} clusters, as many as there are classes; means (and "
        f"deviation) of {answer['repeats']}. No label was used to find them. Matched: right when clusters and classes "
        f"are paired as well as can be; for classes of equal size chance is little over "
        f"{100 / answer['clusters']:.1f} %.",
        soft_wrap=True,
    )


def _row(name: str, found: list[Agreement]) -> dict[str, Any]:
    accuracies = [one.accuracy for one in found]
    return {
        "name": name, "nmi": mean(one.nmi for one in found), "ari": mean(one.ari for one in found),
        "accuracy": mean(accuracies), "spread": stdev(accuracies) if len(found) > 1 else None,
    }  # fmt: skip
