"""The gain of a pretraining over training from scratch on the same few labels, with paired intervals.

Labels are drawn several times. Each draw trains every method on the same images, and all are tested on the same images,
so that differences are paired. Folds of the first draw's labels select how the two methods that are trained by steps
are trained, with as many candidates each; the other draws use the same selection, since time is short. The test images
select nothing: where the folds select no step of fine-tuning, the linear probe is compared instead.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from headway.downstream.classifier import Classifier
from headway.downstream.finetuning.model_selection import Selection
from headway.downstream.heads.registry import HEADS, HeadKind
from headway.evaluation.evaluator import Evaluator
from headway.evaluation.methods import (
    RAW_PIXELS,
    SCRATCH,
    SCRATCH_HEAD,
    UNTRAINED,
    Method,
    baseline_methods,
    fixed,
)
from headway.metrics.intervals import paired_interval
from headway.protocol import Backbone
from headway.utils.hashing import stable_hash
from headway.utils.progress import Progress

PRETRAINED_LINEAR, FINE_TUNED = "pretrained linear", "pretrained fine-tuned"
ROW_NAMES = (RAW_PIXELS, UNTRAINED, SCRATCH, PRETRAINED_LINEAR, FINE_TUNED)
TUNING_FOLDS = 2
"""Folds of the first draw's labels on which the trained methods are tuned: fewer than ``transfer`` has, for time."""
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
    evaluator: Evaluator,
    pretrained: Backbone,
    untrained: Backbone,
    *,
    draws: Sequence[Tensor],
    seed: int,
    heads: tuple[HeadKind, HeadKind] = (SCRATCH_HEAD, HEADS["finetune"]),
    remaining_seconds: Callable[[], float] = lambda: float("inf"),
    progress: Progress | None = None,
) -> ScratchComparison:
    """Train every method on each draw of labels, and test it on the same images.

    Args:
        evaluator: Trains and tests the methods.
        pretrained: The backbone of the run.
        untrained: The same architecture with random weights.
        draws: For each draw of labels the indices of its images.
        seed: Of the trainings.
        heads: Of training from scratch and of fine-tuning.
        remaining_seconds: Returns the seconds that remain. Where they are too few, draws are left out.
        progress: Called with the number of finished trainings and the number of all of them.
    """
    split, (scratch, finetune) = evaluator.split, heads
    methods = [
        *baseline_methods(split.images.shape[1], fixed(untrained), scratch),
        Method(PRETRAINED_LINEAR, fixed(pretrained), HEADS["linear"]),
        Method(FINE_TUNED, fixed(pretrained), finetune),
    ]  # fmt: skip
    correct: dict[str, list[Tensor]] = {method.name: [] for method in methods}
    selections: dict[str, Selection] = {}
    classifiers: dict[str, Classifier] = {}
    for draw, indices in enumerate(draws):
        began = time.perf_counter()
        for number, method in enumerate(methods, 1):
            classifier, selection = evaluator.train(
                method, indices, stable_hash("training", seed, draw), selection=selections.get(method.name)
            )
            if selection:
                selections[method.name] = selection
            correct[method.name].append(evaluator.correct(classifier))
            classifiers.setdefault(method.name, classifier)
            if progress:
                progress(draw * len(methods) + number, len(draws) * len(methods))
        if draw + 1 >= MIN_DRAWS and remaining_seconds() < time.perf_counter() - began:
            break
    if progress:
        progress(len(draws) * len(methods), len(draws) * len(methods))
    tables = {name: torch.stack(rows).float().numpy() for name, rows in correct.items()}  # draws N'
    groups = split.interval_groups()
    rows = [ResultRow(name, *paired_interval(tables[name], signed=False, groups=groups)) for name in ROW_NAMES]
    chosen = FINE_TUNED if selections[FINE_TUNED].stop_index else PRETRAINED_LINEAR
    gain = Gain(*paired_interval(tables[chosen] - tables[SCRATCH], groups=groups), method=chosen)
    return ScratchComparison(rows, gain, classifiers[FINE_TUNED], selections, len(correct[FINE_TUNED]))
