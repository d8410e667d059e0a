"""What the demo compares, and its methods on frozen features: linear probes."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from headway.data.sampling.split import sample_per_class
from headway.downstream.finetuning.finetune import temperature_scaled_head
from headway.downstream.labeled_images import LabeledImages
from headway.evaluation.methods import RAW_PIXELS, UNTRAINED, FeatureFn, feature_fn, raw_pixels
from headway.utils.progress import Progress

PRETRAINED_LINEAR = "pretrained linear"
"""The row of the linear probe on pretrained features."""


class ComparisonSetup(NamedTuple):
    """The backbones and images of a comparison.

    Attributes:
        pretrained: The backbone of the run.
        untrained: The same architecture with random weights.
        images: N C S S, images whose labels may be drawn; stored larger than the view, so that crops have the pixels.
        labels: N, int64.
        test_images: N' C S S.
        test_labels: N', int64.
        classes: K names.
        size: Side of the view in pixels.
        groups: N, int64: no fold separates images of equal group; None: every image is a group of its own.
        test_groups: N', the groups of test images, as for ``paired_interval``; None: all are independent.
    """

    pretrained: nn.Module
    untrained: nn.Module
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    size: int
    groups: Tensor | None = None
    test_groups: np.ndarray | None = None

    def labeled(self, indices: Tensor) -> LabeledImages:
        """Some images with their labels, copied to memory."""
        groups = None if self.groups is None else self.groups[indices]
        return LabeledImages(self.images[indices], self.labels[indices], self.classes, self.size, groups)


class FrozenProbes(NamedTuple):
    """Linear probes on frozen features, over several draws of labels.

    Attributes:
        correct: draws N' for raw pixels, untrained and pretrained features: whether each test image was classified
            correctly.
        heads: The calibrated probe on pretrained features of each draw.
        test_features: N' D for each of them.
    """

    correct: dict[str, Tensor]
    heads: list[nn.Linear]
    test_features: dict[str, Tensor]


def fit_frozen_probes(
    setup: ComparisonSetup, *, labels_per_class: int, num_draws: int, seed: int, progress: Progress | None = None
) -> FrozenProbes:
    """Fit a linear probe to raw pixels, untrained and pretrained features on each draw of labels.

    Args:
        setup: Backbones and images.
        labels_per_class: Labels of each class in a draw.
        num_draws: How many draws.
        seed: Of the draws.
        progress: Called with the number of finished draws and the number of all of them.
    """
    feature_fns: dict[str, FeatureFn] = {
        RAW_PIXELS: raw_pixels,
        UNTRAINED: feature_fn(setup.untrained, setup.size),
        PRETRAINED_LINEAR: feature_fn(setup.pretrained, setup.size),
    }
    test_features = {name: compute(setup.test_images) for name, compute in feature_fns.items()}
    correct: dict[str, list[Tensor]] = {name: [] for name in feature_fns}
    heads = []
    for draw in range(num_draws):
        data = setup.labeled(sample_per_class(setup.labels, labels_per_class, seed=seed + draw))
        for name, compute in feature_fns.items():
            features = compute(data.images)  # n D
            head = temperature_scaled_head(features, data.labels, data.num_classes, seed, groups=data.groups)
            correct[name].append(correct_predictions(head, test_features[name], setup.test_labels))
        heads.append(head)  # of the last name, PRETRAINED_LINEAR
        if progress:
            progress(draw + 1, num_draws)
    return FrozenProbes({name: torch.stack(rows) for name, rows in correct.items()}, heads, test_features)


def correct_predictions(head: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    """N, bool: whether the head classifies each of N D features correctly."""
    with torch.no_grad():
        return head(features).argmax(1) == labels  # n
