"""From a backbone and labeled images to a classifier: what ``headway transfer`` ships and every comparison judges."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from headway.backbones.extract import extract_features
from headway.downstream.classifier import Classifier
from headway.downstream.finetuning.finetune import train_supervised
from headway.downstream.finetuning.layer_decay import freeze_all_but_last_blocks, layer_decay_rules
from headway.downstream.finetuning.model_selection import Selection, select_config
from headway.downstream.heads.frozen import scaled_linear_head
from headway.downstream.heads.recipes import FineTuneConfig
from headway.downstream.heads.registry import HeadKind
from headway.downstream.labeled_images import LabeledImages
from headway.downstream.targets import SINGLE, Target
from headway.errors import HeadwayError
from headway.nn.lora import add_lora
from headway.protocol import Backbone
from headway.rng import seeded
from headway.train.log.events import Sink
from headway.utils.progress import Progress

DEFAULT_FOLDS = 3
"""Folds of the labeled images that select how a head is trained by steps."""


@dataclass(frozen=True)
class TransferObservers:
    """Functions that learn of the progress of a transfer."""

    sinks: Sequence[Sink] = ()
    """They receive the log events of the final training."""
    progress: Progress | None = None
    """Called with the number of finished trainings on folds and the number of all of them."""
    notify: Callable[[str], None] = lambda text: None
    """Called with a line that says what was selected."""


class TrainedClassifier(NamedTuple):
    """A classifier, and what folds selected for it: None for heads that are not trained by steps, or without folds."""

    classifier: Classifier
    selection: Selection | None


def train_classifier(
    backbone: Backbone,
    data: LabeledImages,
    head: HeadKind,
    *,
    seed: int = 0,
    folds: int = 0,
    balance_classes: bool = False,
    features: Tensor | None = None,
    selection: Selection | None = None,
    observers: TransferObservers = TransferObservers(),
) -> TrainedClassifier:
    """Replace the output layer: attach a head for K classes and train it. The given backbone is not changed.

    Args:
        backbone: The pretrained network.
        data: The labeled images.
        head: The kind of output layer, whose recipe says what is trained with it.
        seed: Of the folds, the order and the augmentation.
        folds: How many folds of the labeled images select the regularization, the step to stop at and the temperature;
            0: the recipe is used as it is, and the probabilities are not calibrated.
        balance_classes: Whether all classes get the same total weight, for heads that are fitted (the recipe of the
            others has it).
        features: N D, ``extract_features`` of the images, where the caller has them already.
        selection: What folds have selected before, to be used again.
        observers: They learn of the progress.

    Raises:
        HeadwayError: The head does not support the labels or class weights.
    """
    _check_labels(head, data.target, balance_classes)
    if head.recipe is None or head.from_probe:
        features = extract_features(backbone, data.view_images, data.size) if features is None else features  # N D
    if head.fit is not None:
        assert features is not None
        fitted = head.fit(data.with_features(features), seed, balance_classes, folds)
        return TrainedClassifier(Classifier(backbone, fitted.layer, data.class_names, data.size, head.name,
            fitted.temperature, data.target), None)  # fmt: skip
    return _train_by_steps(backbone, data, head, seed, folds, features, selection, observers)


def _train_by_steps(
    backbone: Backbone,
    data: LabeledImages,
    head: HeadKind,
    seed: int,
    folds: int,
    features: Tensor | None,
    selection: Selection | None,
    observers: TransferObservers,
) -> TrainedClassifier:
    """Select how to train on folds, then train on all images; where no training was better, keep the linear probe."""
    config = head.recipe
    assert config is not None
    balance_classes = config.task.balance_classes

    def make_head(indices: Tensor) -> nn.Module:
        """The initial head of a training on some of the images."""
        if features is None or not head.from_probe:
            return head.build_seeded(backbone.embed_dim, data.num_classes, seed)
        return scaled_linear_head(data.with_features(features).subset(indices), seed, balance_classes)

    if selection is None and folds:
        selection = select_config(
            backbone, make_head, data, base_config=config, folds=folds, seed=seed, from_probe=head.from_probe,
            progress=observers.progress,
        )  # fmt: skip
        observers.notify(str(selection))
    initial, stop, temperature = make_head(torch.arange(len(data.labels))), None, 1.0
    if selection:
        config, temperature, stop = selection.config, selection.temperature, selection.stop_step(len(data.labels))
    if stop == 0:
        classifier = Classifier(backbone, initial, data.class_names, data.size, head.name, temperature, data.target)
    else:
        trained = train_supervised(
            backbone, initial, data, seed=seed, config=config, sinks=observers.sinks, stop_after=stop
        )
        classifier = trained._replace(kind=head.name, temperature=temperature)
    return TrainedClassifier(classifier, selection)


def check_transfer(
    backbone: Backbone, head: HeadKind, *, target: Target = SINGLE, balance_classes: bool = False, folds: int = 0
) -> None:
    """Raise HeadwayError for anything that ``train_classifier`` cannot do, before images are decoded."""
    if folds < 0 or folds == 1:
        raise HeadwayError("value-out-of-range", f"--folds must be 2 or more, or 0 for none, got {folds}")
    _check_labels(head, target, balance_classes)
    if head.recipe:
        _check_trainable(backbone, head.recipe)


def _check_labels(head: HeadKind, target: Target, balance_classes: bool) -> None:
    if not head.weighs_labels and (target.independent or balance_classes):
        raise HeadwayError(
            "backbone-unsupported",
            f"{head.name} supports neither several labels per image nor class weights; take another head, "
            "such as linear",
        )


def _check_trainable(backbone: Backbone, config: FineTuneConfig) -> None:
    """Raise HeadwayError where the backbone cannot be trained so."""
    network = copy.deepcopy(backbone)
    if config.trainable == "lora":
        with seeded(0):
            add_lora(network, config.lora_rank, config.lora_alpha)
    elif config.trainable == "all":
        freeze_all_but_last_blocks(network, config.trainable_blocks)
        layer_decay_rules(network, config.layer_decay)
