"""Two image grids: images of every class, and nearest neighbors in the features of a network."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.protocol import Panel
from headway.reports.image_grid import ImageGrid
from headway.transforms.geometry import to_float01

NUM_QUERIES, NUM_NEIGHBORS = 8, 3
"""Query images, and neighbors shown of each."""

ImagesAt = Callable[[Tensor], Tensor]
"""Maps n indices to images: n C H W, uint8 or float32 in [0, 1]."""


def contact_sheet(images_at: ImagesAt, labels: Tensor, classes: Sequence[str], *, count: int, note: str) -> ImageGrid:
    """Images of every class, with class names.

    Args:
        images_at: Returns images by index.
        labels: N, int64, the class of each image.
        classes: K names.
        count: Maximum number of images; classes take turns.
        note: What the images are.
    """
    chosen = round_robin_indices(labels, count)
    names = [classes[label] for label in labels[chosen].tolist()]
    return ImageGrid(
        title="The images", subtitle=f"{len(labels):,} of {len(classes)} classes", note=note, names=names,
        panels=[Panel("", to_float01(images_at(chosen)), names)],
    )  # fmt: skip


def neighbor_sheet(
    images_at: ImagesAt, labels: Tensor, classes: Sequence[str], features: dict[str, Tensor], *, note: str
) -> ImageGrid:
    """Query images, and their nearest neighbors by the cosine of features.

    Args:
        images_at: Returns images by index.
        labels: N, int64, the class of each image.
        classes: K names.
        features: N D for each network, by its name.
        note: What the images are.
    """
    queries = round_robin_indices(labels, NUM_QUERIES)
    names = [classes[label] for label in labels[queries].tolist()]
    panels = [Panel("image", to_float01(images_at(queries)), names)]
    shares = []
    for name, rows in features.items():
        nearest = nearest_neighbors(rows)  # N NUM_NEIGHBORS
        share = 100 * float((labels[nearest] == labels[:, None]).double().mean())
        shares.append(f"{share:.1f} % by the {name} network")
        for rank, column in enumerate(nearest[queries].T):  # n
            same = (labels[column] == labels[queries]).tolist()
            captions = [
                f"{classes[label]}, {'right' if match else 'wrong'}"
                for label, match in zip(labels[column].tolist(), same, strict=True)
            ]
            panels.append(Panel(name if rank == 0 else "", to_float01(images_at(column)), captions))
    return ImageGrid(
        title="Nearest neighbors", subtitle="the nearest images, before and after pretraining", panels=panels,
        names=names,
        note=f"{note} The images in the first column are not selected: classes take turns. Of the {nearest.shape[1]} "
        f"nearest neighbors of all {len(labels):,} images these are of the same class: {', '.join(shares)}.",
    )  # fmt: skip


def nearest_neighbors(features: Tensor) -> Tensor:
    """N D -> N NUM_NEIGHBORS, int64 (at most N - 1): the other images by descending cosine of centered features."""
    unit = F.normalize(features - features.mean(0), dim=1)  # N D
    cosine = (unit @ unit.T).fill_diagonal_(float("-inf"))  # N N
    return cosine.topk(min(NUM_NEIGHBORS, len(features) - 1), dim=1).indices


def round_robin_indices(labels: Tensor, count: int) -> Tensor:
    """At most ``count`` indices, int64: the first image of each class, then the second of each, and so on."""
    rounds = torch.zeros_like(labels)
    for label in labels.unique():
        members = labels == label
        rounds[members] = torch.arange(int(members.sum()))
    return (rounds * (int(labels.max()) + 1) + labels).argsort(stable=True)[:count]
