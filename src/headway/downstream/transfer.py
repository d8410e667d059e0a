"""From a backbone and labeled images to a classifier, with one of six kinds of output layer."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from torch import Tensor, nn

from headway.downstream.classifier import Classifier
from headway.downstream.features.extract import extract_features
from headway.downstream.finetuning.finetune import (
    FINE_TUNE,
    HEAD_CONFIGS,
    FineTuneConfig,
    calibrated_linear_head,
    temperature_scaled_head,
    train_supervised,
)
from headway.downstream.finetuning.layer_decay import freeze_all_but_last_blocks, layer_decay_rules
from headway.downstream.finetuning.model_selection import select_config
from headway.downstream.heads import RANDOM_INIT_HEADS, NearestNeighborHead, fresh_head
from headway.downstream.knn_temperature import knn_temperature
from headway.downstream.labeled_images import LabeledImages
from headway.errors import HeadwayError, unknown_name_error
from headway.nn.lora import add_lora
from headway.rng import seeded
from headway.train.log.events import Sink
from headway.utils.progress import Progress

HeadKind = Literal["knn", "linear", "attentive", "mlp", "finetune", "lora"]


def transfer(
    backbone: nn.Module,
    data: LabeledImages,
    *,
    head: HeadKind,
    seed: int = 0,
    config: FineTuneConfig | None = None,
    folds: int = 0,
    sinks: Sequence[Sink] = (),
    progress: Progress | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> Classifier:
    """Replace the output layer: attach a head for K classes and train it. The given backbone is not changed.

    Fine-tuning and LoRA start from a linear probe, so that the first steps do not distort the features (Kumar et al.,
    "Fine-tuning can distort pretrained features", 2022, https://arxiv.org/abs/2202.10054).

    Args:
        backbone: The pretrained network.
        data: The labeled images.
        head: knn, linear, attentive or mlp (the backbone is frozen), finetune (the backbone is trained too), or lora
            (low-rank updates of the backbone are trained).
        seed: Of the folds, the order and the augmentation.
        config: Hyperparameters of heads that are trained by steps; None: those in ``HEAD_CONFIGS``.
        folds: How many folds of the labeled images select the regularization, the step to stop at and the temperature;
            0: the given configuration is used, and the probabilities are not calibrated.
        sinks: They receive the log events of training.
        progress: Called with the number of finished trainings on folds and the number of all of them.
        notify: Called with a line that says what was selected.

    Raises:
        HeadwayError: The head is unknown, or cannot do what was asked for.
    """
    config = config or HEAD_CONFIGS.get(head, FINE_TUNE)
    check_transfer(backbone, head, config, data.multilabel, folds)
    if head in ("knn", "linear"):
        return _classifier_of_features(backbone, data, head, seed, config, folds)
    network: Any = backbone
    balance = config.task.balance_classes
    from_probe = head not in RANDOM_INIT_HEADS
    features = extract_features(backbone, data.images, data.size) if from_probe else None  # N D

    def make_head(indices: Tensor | None = None) -> nn.Module:
        """The initial head of a training on some of the images, or on all."""
        if features is None:
            return fresh_head(head, network.embed_dim, data.num_classes, seed)
        rows = slice(None) if indices is None else indices
        x, y, groups = features[rows], data.labels[rows], data.groups_of(rows)
        return temperature_scaled_head(x, y, data.num_classes, seed, balance, groups)

    initial, stop, temperature = make_head(), None, 1.0
    if folds:
        selected = select_config(
            backbone, make_head, data, base_config=config, folds=folds, seed=seed, from_probe=from_probe,
            progress=progress,
        )  # fmt: skip
        notify(str(selected))
        config, temperature = selected.config, selected.temperature
        stop = selected.stop_step(len(data.images))
    if stop == 0:  # no training was better than the linear probe
        return Classifier(backbone, initial, data.class_names, data.size, head, temperature, data.multilabel)
    trained = train_supervised(backbone, initial, data, seed=seed, config=config, sinks=sinks, stop_after=stop)
    return trained._replace(kind=head, temperature=temperature)


def _classifier_of_features(
    backbone: nn.Module, data: LabeledImages, head: HeadKind, seed: int, config: FineTuneConfig, folds: int
) -> Classifier:
    """k-NN or a linear probe on frozen features, which take no steps."""
    features = extract_features(backbone, data.images, data.size)  # N D
    balance, temperature = config.task.balance_classes, 1.0
    layer: nn.Module
    if head == "knn":
        layer = NearestNeighborHead(features, data.labels, data.num_classes)
        if folds:
            temperature = knn_temperature(features, data.labels, data.num_classes, folds, seed, data.groups)
    else:
        layer, fitted = calibrated_linear_head(features, data.labels, data.num_classes, seed, balance, data.groups)
        temperature = fitted if folds else 1.0
    return Classifier(backbone, layer, data.class_names, data.size, head, temperature, data.multilabel)


def check_transfer(backbone: nn.Module, head: str, config: FineTuneConfig, multilabel: bool, folds: int) -> None:
    """Raise HeadwayError for anything that ``transfer`` cannot do, before images are decoded; arguments as there."""
    if head not in get_args(HeadKind):
        raise unknown_name_error("head", head, get_args(HeadKind))
    if folds < 0 or folds == 1:
        raise HeadwayError(f"--folds must be 2 or more, or 0 for none, got {folds}")
    if head == "knn" and (multilabel or config.task.balance_classes):
        raise HeadwayError(
            "knn supports neither several labels per image nor class weights; take another head, such as linear"
        )
    network = copy.deepcopy(backbone)
    if config.trainable == "lora":
        with seeded(0):
            add_lora(network, config.lora_rank, config.lora_alpha)
    elif config.trainable == "all" and head in HEAD_CONFIGS:  # the other heads do not train the backbone
        freeze_all_but_last_blocks(network, config.trainable_blocks)
        layer_decay_rules(network, config.layer_decay)
