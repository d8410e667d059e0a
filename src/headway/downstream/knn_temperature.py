"""The temperature that calibrates a k-NN classifier."""

import torch
from torch import Tensor

from headway.data.sampling.split import folds_until
from headway.downstream.heads import NearestNeighborHead
from headway.metrics.calibration import fit_temperature

MIN_HELD_OUT_IMAGES = 2000
"""Further folds are used until this many images were held out; one parameter needs no more."""


def knn_temperature(
    features: Tensor, labels: Tensor, num_classes: int, folds: int, seed: int, groups: Tensor | None = None
) -> float:
    """Fit the temperature of a k-NN classifier by cross-validation.

    Args:
        features: N D.
        labels: N, int64 in 0..K-1.
        num_classes: K.
        folds: How many folds; the images of each are classified by the images of the others.
        seed: Of the folds.
        groups: N, int64: images of equal group are in one fold.

    Returns:
        The temperature; 1 where no fold can be made.
    """
    logits, targets = [], []
    for train, test in folds_until(labels, folds, MIN_HELD_OUT_IMAGES, seed, groups):
        logits.append(NearestNeighborHead(features[train], labels[train], num_classes)(features[test]))
        targets.append(labels[test])
    return fit_temperature(torch.cat(logits), torch.cat(targets), pseudo_count=1.0) if logits else 1.0
