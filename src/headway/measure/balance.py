"""Weights that make rare classes count as much as frequent ones."""

import torch
from torch import Tensor


def class_weights(labels: Tensor) -> Tensor:
    """What a picture of each class counts, so that all classes count alike and the mean over pictures is 1.

    As scikit-learn's "balanced": N / (K' N_k), K' being the number of classes that occur.

    Args:
        labels: N, int64 in 0..K-1; or N K of 0 and 1, where a picture may have several.

    Returns:
        K, float64; for N K labels 2 K: the weights of pictures that have the label, and of those that don't.
    """
    if labels.dim() == 1:
        counts = labels.bincount().double()  # K
        return (len(labels) / (int((counts > 0).sum()) * counts)).nan_to_num(posinf=0.0)
    has = labels.double().sum(0)  # K
    counts = torch.stack([has, len(labels) - has])  # 2 K
    both = (counts > 0).all(0)  # K: a label that all pictures have, or none, leaves nothing to balance
    return torch.where(both, len(labels) / (2 * counts), 1.0)


def weight_of_each(labels: Tensor, weights: Tensor) -> Tensor:
    """Of each picture (N), or each picture and label (N K), from ``class_weights``."""
    return weights[labels] if labels.dim() == 1 else torch.where(labels > 0, weights[0], weights[1])
