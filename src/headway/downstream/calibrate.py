"""The temperature of k-NN, on pictures that did not vote."""

import torch
from torch import Tensor

from headway.data.split import some_folds
from headway.downstream.heads import NearestNeighbours
from headway.measure.calibration import fit_temperature

ENOUGH = 2000
"""Folds are gone through until so many pictures were held out: one number needs no more."""


def knn_temperature(
    features: Tensor, labels: Tensor, classes: int, folds: int, seed: int, groups: Tensor | None = None
) -> float:
    """T for the votes of nearest neighbours.

    Args:
        features: N D.
        labels: N, int64 in 0..K-1.
        classes: K.
        folds: Parts, each of which asks the others.
        seed: Of the parts.
        groups: N, int64: pictures of equal group are in one part.
    """
    logits, asked = [], []
    for train, held in some_folds(labels, folds, ENOUGH, seed, groups):
        logits.append(NearestNeighbours(features[train], labels[train], classes)(features[held]))
        asked.append(labels[held])
    return fit_temperature(torch.cat(logits), torch.cat(asked), doubt=1.0) if logits else 1.0
