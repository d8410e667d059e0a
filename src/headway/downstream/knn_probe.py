"""A k-NN probe for the training loop: how well the current features separate labeled images by class."""

from collections.abc import Callable

from headway.backbones.extract import extract_features
from headway.data.dataset.image_store import build_store, median_short_side, split_groups
from headway.data.dataset.subset import evenly_spaced_indices
from headway.data.sampling.split import stratified_split
from headway.data.sources.base import Source
from headway.metrics.knn import knn_accuracy
from headway.protocol import Backbone

MAX_PROBE_IMAGES = 2000
"""At most this many labeled images are used, evenly spaced over all of them."""
MAX_PROBE_SIDE = 336
"""At most this many pixels per side are stored of each."""


def knn_probe(source: Source, seed: int = 0) -> Callable[[Backbone], float]:
    """Make a function from a backbone to its 20-NN accuracy on a held-out fifth of the labeled images.

    Args:
        source: Labeled images, decoded to the same pixel format as the backbone's own training images.
        seed: Of the split.

    Returns:
        A function from a backbone to its accuracy in percent.
    """
    side = min(median_short_side(source)[0], MAX_PROBE_SIDE)
    store = build_store(source, side, indices=evenly_spaced_indices(len(source), MAX_PROBE_IMAGES))
    assert store.labels is not None
    labels, num_classes = store.labels, len(store.classes)
    known = (labels >= 0).nonzero().flatten()
    bank, test = (known[part] for part in stratified_split(labels[known], seed=seed, groups=split_groups(store)[known]))

    def probe(backbone: Backbone) -> float:
        features = extract_features(backbone, store.images, backbone.image_size)
        return knn_accuracy(features[bank], labels[bank], features[test], labels[test], num_classes)

    return probe
