"""A k-NN probe that can be handed into the loop: how well do the features sort labelled pictures, as they are now?"""

from collections.abc import Callable

from torch import nn

from headway.data.source import Source, evenly
from headway.data.split import stratified_split
from headway.data.store import build_store, groups_of, natural_size
from headway.downstream.features import extract
from headway.downstream.swap import view_size
from headway.measure.knn import knn_accuracy

MOST = 2000
"""Pictures looked at, spread evenly over the labelled ones."""


def knn_probe(source: Source, seed: int = 0) -> Callable[[nn.Module], float]:
    """A function from a backbone to its 20-NN accuracy in per cent, on a held-out fifth of the labelled pictures.

    Args:
        source: Labelled pictures, in the form in which the backbone is shown its own.
        seed: Of the split.
    """
    side = min(natural_size(source)[0], 336)
    store = build_store(source, side, indices=evenly(len(source), MOST))
    assert store.labels is not None
    labels, classes = store.labels, len(store.classes)
    known = (labels >= 0).nonzero().flatten()
    bank, held = (known[part] for part in stratified_split(labels[known], seed=seed, groups=groups_of(store)[known]))

    def probe(backbone: nn.Module) -> float:
        features = extract(backbone, store.images, view_size(backbone))
        return knn_accuracy(features[bank], labels[bank], features[held], labels[held], classes)

    return probe
