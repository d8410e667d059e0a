"""A k-NN probe that can be handed into the loop: how well do the features sort labelled pictures, as they are now?"""

from collections.abc import Callable
from typing import Any

from torch import nn

from headway.data.source import Source
from headway.data.split import stratified_split
from headway.data.store import build_store, natural_size
from headway.downstream.features import extract
from headway.measure.knn import knn_accuracy

MOST = 2000
"""Pictures looked at, spread evenly over the labelled ones."""


def knn_probe(source: Source, seed: int = 0, size: int = 0) -> Callable[[nn.Module], float]:
    """A function from a backbone to its 20-NN accuracy in per cent, on a held-out fifth of the labelled pictures.

    Args:
        source: Labelled pictures.
        seed: Of the split.
        size: Side of the view in pixels; 0: the median short side, rounded down to whole patches.
    """
    count = len(source)
    chosen = sorted({i * count // min(count, MOST) for i in range(min(count, MOST))})
    side = size or min(natural_size(source)[0], 224)
    store = build_store(source, side, indices=chosen)
    assert store.labels is not None
    labels, classes = store.labels, len(store.classes)
    known = (labels >= 0).nonzero().flatten()
    bank, held = (known[part] for part in stratified_split(labels[known], seed=seed))

    def probe(backbone: nn.Module) -> float:
        patch: Any = backbone.patch_size
        view = side // patch * patch
        features = extract(backbone, store.images, view)
        return knn_accuracy(features[bank], labels[bank], features[held], labels[held], classes)

    return probe
