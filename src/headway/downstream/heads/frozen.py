"""Output layers that are fitted to the features of a frozen backbone without gradient steps: linear probe and k-NN."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from headway.data.sampling.split import folds_until
from headway.downstream.heads.layers import NearestNeighborHead
from headway.downstream.targets import SINGLE, Target
from headway.metrics.calibration import fit_temperature
from headway.metrics.linear_probe import fit_probe
from headway.rng import seeded

MIN_HELD_OUT_IMAGES = 2000
"""Further folds are used until this many images were held out; a temperature needs no more."""


class LabeledFeatures(NamedTuple):
    """Features of images with their labels.

    Attributes:
        features: N D, float32.
        labels: N or N K, as ``target`` encodes them.
        num_classes: K.
        groups: N, int64: no fold separates images of equal group; None: every image is a group of its own.
        target: What the labels mean.
    """

    features: Tensor
    labels: Tensor
    num_classes: int
    groups: Tensor | None = None
    target: Target = SINGLE

    def subset(self, indices: Tensor) -> "LabeledFeatures":
        """Some of the images."""
        groups = None if self.groups is None else self.groups[indices]
        return self._replace(features=self.features[indices], labels=self.labels[indices], groups=groups)


class FittedHead(NamedTuple):
    """An output layer, D -> K, and the temperature that calibrates it."""

    layer: nn.Module
    temperature: float


def fit_linear_head(data: LabeledFeatures, seed: int, balance_classes: bool = False, folds: int = 1) -> FittedHead:
    """A linear probe.

    Args:
        data: What it learns from.
        seed: Of its folds, and of an unused initialization.
        balance_classes: Whether all classes get the same total weight.
        folds: 0: the temperature is 1. Whatever their number, five folds select penalty and temperature.
    """
    fitted = fit_probe(
        data.features, data.labels, data.num_classes, seed=seed, balance_classes=balance_classes, groups=data.groups
    )
    with seeded(seed):
        layer = nn.Linear(data.features.shape[1], data.num_classes)
    layer.load_state_dict({"weight": fitted.probe.weight.float(), "bias": fitted.probe.bias.float()})
    return FittedHead(layer, fitted.temperature if folds else 1.0)


def scaled_linear_head(data: LabeledFeatures, seed: int, balance_classes: bool = False) -> nn.Module:
    """A linear probe whose logits are divided by their temperature: the initial head of fine-tuning.

    The probes of different label draws and folds have different penalties, and so logits of different scale. The
    division brings all of them to one scale.
    """
    layer, temperature = fit_linear_head(data, seed, balance_classes)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.div_(temperature)
    return layer


def fit_knn_head(data: LabeledFeatures, seed: int, balance_classes: bool = False, folds: int = 0) -> FittedHead:
    """k-NN among the labeled images, with a temperature that ``folds`` of them select.

    Raises:
        ValueError: ``balance_classes``: neighbors have no weights.
    """
    if balance_classes:
        raise ValueError("k-NN has no class weights")
    layer = NearestNeighborHead(data.features, data.labels, data.num_classes)
    return FittedHead(layer, _knn_temperature(data, folds, seed) if folds else 1.0)


def _knn_temperature(data: LabeledFeatures, folds: int, seed: int) -> float:
    """The temperature by cross-validation; 1 where no fold can be made."""
    logits, targets = [], []
    for train, test in folds_until(data.labels, folds, MIN_HELD_OUT_IMAGES, seed, data.groups):
        layer = NearestNeighborHead(data.features[train], data.labels[train], data.num_classes)
        logits.append(layer(data.features[test]))  # n K
        targets.append(data.labels[test])
    return fit_temperature(torch.cat(logits), torch.cat(targets), pseudo_count=1.0) if logits else 1.0
