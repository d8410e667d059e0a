"""The methods that a comparison evaluates on equal terms: each learns from some labeled images.

    train_and_test(train_indices, test_indices, seed) -> bool for each tested image: was it classified correctly?

``train_indices`` are the images that the method learns from; ``test_indices`` those that it is tested on, or None for
the test set.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headway.backbones.build import from_config, to_config
from headway.data.dataset.subset import Images, subset
from headway.data.sampling.split import folds_until, sample_per_class, stratified_folds
from headway.downstream.features.extract import extract_features
from headway.downstream.finetuning.finetune import (
    FROM_SCRATCH,
    FineTuneConfig,
    calibrated_linear_head,
    temperature_scaled_head,
    train_supervised,
)
from headway.downstream.heads import RANDOM_INIT_HEADS, NearestNeighborHead, fresh_head
from headway.downstream.labeled_split import LabeledSplit
from headway.rng import seeded
from headway.transforms.geometry import center_crop_resize, to_float01
from headway.utils.hashing import stable_hash
from headway.utils.threads import torch_threads, unstalled_threads

TrainAndTest = Callable[[Tensor, Tensor | None, int], Tensor]
FeatureFn = Callable[[Images], Tensor]
BackboneFn = Callable[[int], nn.Module]
"""From a seed to a backbone."""
MethodFactory = Callable[[int], TrainAndTest]
"""From the offset of a seed to a method that can be trained and tested."""

RAW_PIXELS, UNTRAINED, SCRATCH = "raw pixels", "untrained", "from scratch"
PIXEL_CHUNK = 1024
"""Images that are converted to floating point at a time."""
RAW_PIXELS_SIDE = 32
"""Side in pixels to which images are resized where their raw pixels are the features."""
SELECTION_FOLDS = 3
"""Folds of the labels for cross-validation."""
LR_FACTORS = (1.0, 0.3, 3.0)
"""Factors on the learning rate; every method that is trained by steps selects one of them by cross-validation."""
SCRATCH_STEPS_RATIO = 2
"""Training from scratch takes this many times the steps of fine-tuning, since it starts farther from a solution."""
SCRATCH_CONFIG = replace(
    FROM_SCRATCH,
    epochs=SCRATCH_STEPS_RATIO * FROM_SCRATCH.epochs,
    min_steps=SCRATCH_STEPS_RATIO * FROM_SCRATCH.min_steps,
)


class Score(NamedTuple):
    """The result of a method on one draw of labels.

    Attributes:
        correct: n, bool: whether each test image was classified correctly.
        fold_accuracy: Accuracy on held-out training labels, in [0, 1]; None where it was not computed.
    """

    correct: Tensor
    fold_accuracy: float | None


class Method(NamedTuple):
    """One row of the leaderboard.

    Attributes:
        name: Its name.
        build: Makes it for the offset of a seed.
        head: One of ``method_heads``, or from scratch.
        selection_group: Cross-validation selects one method of each group; empty: it is only there to compare with.
    """

    name: str
    build: MethodFactory
    head: str
    selection_group: str = ""


def raw_pixels(images: Images) -> Tensor:
    """N C S S -> N C*32*32: the pixels of small images, as features without any network."""
    with torch_threads(unstalled_threads()):
        return torch.cat(
            [center_crop_resize(to_float01(chunk), RAW_PIXELS_SIDE).flatten(1) for chunk in images.split(PIXEL_CHUNK)]
        )


def feature_fn(backbone: nn.Module, size: int) -> FeatureFn:
    """A function from images to the backbone's pooled features."""
    return lambda images: extract_features(backbone, images, size)


def reinitialize(backbone: nn.Module, seed: int) -> nn.Module:
    """The same architecture with new random weights."""
    with seeded(seed):
        return from_config(to_config(backbone))


def frozen_method(split: LabeledSplit, compute_features: FeatureFn, head: str = "linear") -> TrainAndTest:
    """A linear probe, or k-NN (``knn``), on frozen features."""
    test_features = cache(lambda: compute_features(split.test_images))  # n D, computed when it is first needed
    features_at = cached_features(compute_features, split.images)

    def train_and_test(train_indices: Tensor, test_indices: Tensor | None, seed: int) -> Tensor:
        bank, labels, num_classes = features_at(train_indices), split.labels[train_indices], len(split.classes)
        layer = (
            NearestNeighborHead(bank, labels, num_classes) if head == "knn"
            else calibrated_linear_head(bank, labels, num_classes, seed, groups=chosen_groups(split, train_indices))[0]
        )  # fmt: skip
        features = test_features() if test_indices is None else features_at(test_indices)  # n D
        with torch.no_grad():
            return layer(features).argmax(1) == _target_labels(split, test_indices)

    return train_and_test


def cached_features(compute_features: FeatureFn, images: Images) -> Callable[[Tensor], Tensor]:
    """A function from n indices to features, n D, that computes those of each image once: draws and folds overlap."""
    computed, row = torch.empty(0), torch.full((len(images),), -1)  # N' D, and the row of each image in it

    def features(indices: Tensor) -> Tensor:
        nonlocal computed
        missing = indices[row[indices] < 0]
        if len(missing):
            new = compute_features(subset(images, missing))
            row[missing] = len(computed) + torch.arange(len(missing))
            computed = torch.cat([computed, new]) if len(computed) else new
        return computed[row[indices]]

    return features


def chosen_groups(split: LabeledSplit, indices: Tensor) -> Tensor | None:
    """n, int64: the groups of some training images, which no fold separates; None: every image is its own group."""
    return None if split.groups is None else split.groups[indices]


def trained_method(
    split: LabeledSplit, build_backbone_fn: BackboneFn, size: int, config: FineTuneConfig, head: str
) -> TrainAndTest:
    """A head that is trained by steps, alone or with the backbone; or the whole network, from scratch.

    Args:
        split: Images to learn from and to test on.
        build_backbone_fn: From the seed of the training to the initial backbone, which is not changed.
        size: Side of the view in pixels.
        config: The hyperparameters.
        head: attentive, mlp, finetune or lora, whose initial head is that of ``transfer``; from scratch: a linear head
            with random weights.
    """
    training_set = split.training_set(size)

    def train_and_test(train_indices: Tensor, test_indices: Tensor | None, seed: int) -> Tensor:
        data = training_set.subset(train_indices)
        backbone: Any = build_backbone_fn(seed)
        if head == SCRATCH or head in RANDOM_INIT_HEADS:
            initial = fresh_head(head, backbone.embed_dim, data.num_classes, seed)
        else:
            features = extract_features(backbone, data.images, size)  # n D
            initial = temperature_scaled_head(features, data.labels, data.num_classes, seed, groups=data.groups)
        classifier = train_supervised(backbone, initial, data, seed=seed, config=config)
        test_images = split.test_images if test_indices is None else subset(split.images, test_indices)
        return classifier.predict_proba(test_images).argmax(1) == _target_labels(split, test_indices)

    return train_and_test


def draw_labels(labels: Tensor, labels_per_class: int | None, seed: int, draw: int) -> Tensor:
    """Indices of ``labels_per_class`` images of each class (None: all), alike for every method of a seed and draw."""
    if labels_per_class is None:
        return torch.arange(len(labels))
    return sample_per_class(labels, labels_per_class, seed=stable_hash("labels", seed, draw))


def evaluate_method(
    train_and_test: TrainAndTest, split: LabeledSplit, indices: Tensor, seed: int, cross_validate: bool
) -> Score:
    """Train a method on the labels of ``indices`` and test it on the test set, with ``cross_validate`` on folds too."""
    fold_accuracy = cross_val_accuracy(train_and_test, split, indices, seed) if cross_validate else None
    return Score(train_and_test(indices, None, seed), fold_accuracy)


def cross_val_accuracy(train_and_test: TrainAndTest, split: LabeledSplit, indices: Tensor, seed: int) -> float:
    """Accuracy in [0, 1] on held-out labels, over folds of ``indices``; no test image is used."""
    parts = stratified_folds(split.labels[indices], SELECTION_FOLDS, seed, chosen_groups(split, indices))
    correct = [train_and_test(indices[train], indices[test], seed) for train, test in parts]
    return float(torch.cat(correct).double().mean()) if correct else 0.0  # one group only: nothing can be held out


def can_hold_out(split: LabeledSplit, indices: Tensor) -> bool:
    """Whether some class has a second image among ``indices``, of another group, that a fold can hold out."""
    return bool(folds_until(split.labels[indices], SELECTION_FOLDS, 1, groups=chosen_groups(split, indices)))


def choose_lr_factor(
    build: Callable[[FineTuneConfig], TrainAndTest],
    config: FineTuneConfig,
    split: LabeledSplit,
    indices: Tensor,
    seed: int,
) -> float:
    """The factor on the learning rate with the highest accuracy on folds of ``indices``; the first one of equals."""
    return max(LR_FACTORS, key=lambda factor: cross_val_accuracy(build(scale_lr(config, factor)), split, indices, seed))


def scale_lr(config: FineTuneConfig, factor: float) -> FineTuneConfig:
    """The same configuration with ``factor`` times the learning rate."""
    return replace(config, optim=replace(config.optim, lr=config.optim.lr * factor))


def with_steps(config: FineTuneConfig, steps: int) -> FineTuneConfig:
    """The same configuration with exactly so many steps."""
    return replace(config, epochs=0, min_steps=steps)


def _target_labels(split: LabeledSplit, test_indices: Tensor | None) -> Tensor:
    return split.test_labels if test_indices is None else split.labels[test_indices]
