"""Weights that make rare classes count as much as frequent ones."""

import torch
from torch import Tensor


def class_weights(labels: Tensor) -> Tensor:
    """Weight of an image of each class, so that all classes count alike and the mean over images is 1.

    As scikit-learn's "balanced": N / (K' N_k), where K' is the number of classes that occur.

    Args:
        labels: N, int64 in 0..K-1; or N K of 0 and 1 for multilabel data.

    Returns:
        K, float64; for N K labels 2 K: the weights of images with the label, and of those without.
    """
    if labels.dim() == 1:
        counts = labels.bincount().double()  # K
        return (len(labels) / (int((counts > 0).sum()) * counts)).nan_to_num(posinf=0.0)
    positives = labels.double().sum(0)  # K
    counts = torch.stack([positives, len(labels) - positives])  # 2 K
    both = (counts > 0).all(0)  # K: a label that all images have, or none, leaves nothing to balance
    return torch.where(both, len(labels) / (2 * counts), 1.0)


def sample_weights(labels: Tensor, per_class: Tensor) -> Tensor:
    """Weight of each image (N), or each image and label (N K), from ``class_weights``."""
    return per_class[labels] if labels.dim() == 1 else torch.where(labels > 0, per_class[0], per_class[1])
