"""The gain of a pretraining over training from scratch on the same few labels, with paired intervals.

Labels are drawn several times. Each draw trains every method on the same images, and all are tested on the same images,
so that differences are paired. The two methods that are trained by steps are tuned alike, with as many trials each:
folds of the first draw's labels select the strength of augmentation and the step to stop at (``model_selection``). The
test images select nothing: where the folds select no step of fine-tuning, the linear probe is compared instead.
"""

import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from headway.data.sampling.split import sample_per_class
from headway.downstream.classifier import Classifier
from headway.downstream.finetuning.finetune import (
    FINE_TUNE,
    FROM_SCRATCH,
    FineTuneConfig,
    temperature_scaled_head,
    train_supervised,
)
from headway.downstream.finetuning.model_selection import REGULARIZATION_MAX_LABELS, Selection, select_config
from headway.downstream.heads import fresh_head
from headway.downstream.labeled_images import LabeledImages
from headway.evaluation.frozen_probes import PRETRAINED_LINEAR, ComparisonSetup, FrozenProbes
from headway.evaluation.methods import RAW_PIXELS, SCRATCH, UNTRAINED, feature_fn
from headway.metrics.intervals import paired_interval
from headway.utils.progress import Progress

FINE_TUNED = "pretrained fine-tuned"
ROW_NAMES = (RAW_PIXELS, UNTRAINED, SCRATCH, PRETRAINED_LINEAR, FINE_TUNED)
TUNING_FOLDS = 2
"""Folds of the first draw's labels on which both methods are tuned."""
MIN_DRAWS = 3
"""Draws of labels that are used whatever the time: one has no interval, and that of two is too wide to be of use."""


class ResultRow(NamedTuple):
    """A method: its accuracy in percent and the 95 % interval over label draws and test images."""

    name: str
    accuracy: float
    low: float
    high: float


class Gain(NamedTuple):
    """A difference in points with its 95 % interval.

    Attributes:
        points: Mean difference in accuracy.
        low: Lower end.
        high: Upper end.
        method: The row that was compared with training from scratch.
    """

    points: float
    low: float
    high: float
    method: str


class TrainedSide(NamedTuple):
    """One of the two methods that are trained by steps.

    Attributes:
        backbone: Its initial weights.
        config: Its hyperparameters before tuning.
        make_head: From indices into the first draw to the initial head of a training on them.
        from_probe: Whether that head is a linear probe, so that no further training is a candidate.
    """

    backbone: nn.Module
    config: FineTuneConfig
    make_head: Callable[[Tensor], nn.Module]
    from_probe: bool


class ScratchComparison(NamedTuple):
    """The result of the comparison.

    Attributes:
        rows: The methods.
        gain: Of pretraining over training from scratch.
        classifier: The pretrained one that was compared, of the first draw; its probabilities are calibrated.
        selections: What the folds selected, by the name of the row that was trained.
        num_draws: How many draws of labels were used.
    """

    rows: list[ResultRow]
    gain: Gain
    classifier: Classifier
    selections: dict[str, Selection]
    num_draws: int


def compare_to_scratch(
    setup: ComparisonSetup,
    frozen_probes: FrozenProbes,
    *,
    labels_per_class: int,
    seed: int,
    scratch_config: FineTuneConfig = FROM_SCRATCH,
    finetune_config: FineTuneConfig = FINE_TUNE,
    remaining_seconds: Callable[[], float] = lambda: float("inf"),
    progress: Progress | None = None,
) -> ScratchComparison:
    """Tune both methods, train them on each draw of labels, and test everything on the same images.

    Args:
        setup: Backbones and images.
        frozen_probes: The result of ``fit_frozen_probes`` with the same labels_per_class and seed; fine-tuning starts
            from its heads.
        labels_per_class: Labels of each class in a draw.
        seed: Of draws and training.
        scratch_config: The configuration of training from scratch, before tuning.
        finetune_config: The configuration of fine-tuning, before tuning.
        remaining_seconds: Returns the seconds that remain. Where they are too few, draws are left out.
        progress: Called with the number of finished parts and the number of all of them; a part is the tuning of a
            method, or its training on one draw.
    """
    count = len(frozen_probes.heads)
    draws = [sample_per_class(setup.labels, labels_per_class, seed=seed + draw) for draw in range(count)]
    first_data, num_classes = setup.labeled(draws[0]), len(setup.classes)
    features = feature_fn(setup.pretrained, setup.size)(first_data.images)  # n D

    def probe(indices: Tensor) -> nn.Module:
        labels, groups = first_data.labels[indices], first_data.groups_of(indices)
        return temperature_scaled_head(features[indices], labels, num_classes, seed, groups=groups)

    def random_head(indices: Tensor | None = None, seed: int = seed) -> nn.Module:
        return fresh_head("linear", features.shape[1], num_classes, seed)

    sides = {
        SCRATCH: TrainedSide(setup.untrained, scratch_config, random_head, False),
        FINE_TUNED: TrainedSide(setup.pretrained, finetune_config, probe, True),
    }
    total, finished = len(sides) * (1 + count), itertools.count(1)
    report = progress or (lambda done, total: None)
    selections = {}
    for name, side in sides.items():
        selections[name] = select_config(
            side.backbone, side.make_head, first_data, base_config=side.config, folds=TUNING_FOLDS, seed=seed,
            from_probe=side.from_probe,
        )  # fmt: skip
        report(next(finished), total)
    correct: dict[str, list[Tensor]] = {name: [] for name in sides}
    classifiers: dict[str, Classifier] = {}
    for draw, indices in enumerate(draws):
        began = time.perf_counter()
        heads = {SCRATCH: random_head(seed=seed + draw), FINE_TUNED: frozen_probes.heads[draw]}
        for name, side in sides.items():
            classifier = _train(side.backbone, heads[name], setup.labeled(indices), selections[name], seed + draw)
            correct[name].append(classifier.predict_proba(setup.test_images).argmax(1) == setup.test_labels)
            classifiers.setdefault(name, classifier)
            report(next(finished), total)
        if draw + 1 >= MIN_DRAWS and remaining_seconds() < time.perf_counter() - began:
            break
    report(total, total)
    return _result(setup, frozen_probes, correct, selections, classifiers[FINE_TUNED])


def _train(backbone: nn.Module, head: nn.Module, data: LabeledImages, selection: Selection, seed: int) -> Classifier:
    """Train with the selected configuration; where it has no steps, take the initial head."""
    stop = selection.stop_step(len(data.images))
    if not stop:
        return Classifier(backbone, head, data.class_names, data.size, "linear")
    trained = train_supervised(backbone, head, data, seed=seed, config=selection.config, stop_after=stop)
    return trained._replace(temperature=selection.temperature)


def _result(
    setup: ComparisonSetup,
    frozen_probes: FrozenProbes,
    correct: dict[str, list[Tensor]],
    selections: dict[str, Selection],
    classifier: Classifier,
) -> ScratchComparison:
    """Accuracies and gain with their intervals."""
    count = len(correct[FINE_TUNED])
    tensors = {name: rows[:count] for name, rows in frozen_probes.correct.items()}
    tensors |= {name: torch.stack(rows) for name, rows in correct.items()}
    tables = {name: rows.float().numpy() for name, rows in tensors.items()}  # draws n
    groups = setup.test_groups
    rows = [ResultRow(name, *paired_interval(tables[name], signed=False, groups=groups)) for name in ROW_NAMES]
    method = FINE_TUNED if selections[FINE_TUNED].stop_index else PRETRAINED_LINEAR
    gain = Gain(*paired_interval(tables[method] - tables[SCRATCH], groups=groups), method=method)
    return ScratchComparison(rows, gain, classifier, selections, count)


def num_trials(num_labels: int) -> int:
    """Trainings that tune one method with so many labels: folds, times two augmentations where labels are few."""
    return TUNING_FOLDS * (2 if num_labels <= REGULARIZATION_MAX_LABELS else 1)
