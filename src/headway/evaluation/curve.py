"""Accuracy against the number of labels: a run, training from scratch, and the untrained network.

At every number, all methods learn from the same draws of labels. Intervals cover these draws and the test images. The
run is one pretraining: the intervals do not cover other pretraining seeds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from headway.downstream.finetuning.finetune import FineTuneConfig
from headway.downstream.labeled_split import LabeledSplit
from headway.evaluation.method_heads import head_config, head_kind
from headway.evaluation.methods import (
    LR_FACTORS,
    SCRATCH,
    SCRATCH_CONFIG,
    SCRATCH_STEPS_RATIO,
    SELECTION_FOLDS,
    UNTRAINED,
    BackboneFn,
    TrainAndTest,
    choose_lr_factor,
    draw_labels,
    evaluate_method,
    feature_fn,
    frozen_method,
    reinitialize,
    scale_lr,
    trained_method,
    with_steps,
)
from headway.evaluation.result_cache import GetOrCompute, pack_bits, unpack_bits
from headway.metrics.intervals import Interval, paired_interval
from headway.utils.hashing import stable_hash
from headway.utils.progress import Progress

PRETRAINED = "pretrained"
TUNING_LABELS_PER_CLASS = 10
"""Labels of each class (or the largest number that is asked for, if less) whose folds select the learning rates."""
MAX_FINETUNE_STEPS = 1500
"""Default limit on the steps of one training (from scratch: SCRATCH_STEPS_RATIO times as many)."""
LabelsPerClass = int | None
"""A number of labels, or None for all of them."""
MethodOfCount = Callable[[LabelsPerClass], TrainAndTest]


class CurvePoint(NamedTuple):
    """The results at one number of labels.

    Attributes:
        labels_per_class: Labels of each class; None: all there are.
        num_labels: Labeled images of all classes.
        num_draws: How many draws there are; only one where all labels are used.
        accuracy: Of each method, in percent.
        gain: Of the pretrained network over training from scratch, in points, paired.
    """

    labels_per_class: LabelsPerClass
    num_labels: int
    num_draws: int
    accuracy: dict[str, Interval]
    gain: Interval


@dataclass(eq=False)
class LabelCurve:
    """A curve of accuracy against the number of labels.

    Args:
        backbone: Of the run.
        split: Images to learn from and to test on.
        size: Side of the view in pixels.
        head: The head of the run, as ``method_heads`` names it.
        counts: Labels of each class, ascending; None at the end: all.
        draws: Draws of labels at each count but "all".
        seed: Of draws and training.
        finetune_steps: Steps of one training (from scratch: SCRATCH_STEPS_RATIO times as many); 0: the head's default,
            at most MAX_FINETUNE_STEPS.
        get_or_compute: The cache of results.
        auto_processes: Whether several processes may be started on this machine.
    """

    backbone: nn.Module
    split: LabeledSplit
    size: int
    head: str
    counts: Sequence[LabelsPerClass]
    draws: int
    seed: int
    finetune_steps: int
    get_or_compute: GetOrCompute
    auto_processes: bool = False

    def __post_init__(self) -> None:
        self.config, self.num_done = head_config(self.head), 0
        self.progress: Progress = lambda done, total: None

    def points(self, progress: Progress) -> list[CurvePoint]:
        """A point for every count; ``progress`` gets the number of finished results and of all of them."""
        self.progress, self.num_done = progress, 0
        methods = self.methods()
        return [self._point(methods, count) for count in self.counts]

    def methods(self) -> Mapping[str, MethodOfCount]:
        """The methods by name, each a function of the number of labels."""
        backbone = reinitialize(self.backbone, stable_hash("untrained", self.seed))
        untrained = frozen_method(self.split, feature_fn(backbone, self.size))
        pretrained: MethodOfCount = (
            partial(self._trained_by_steps, PRETRAINED, lambda seed: self.backbone, self.config, head_kind(self.head))
            if self.config
            else _for_any_count(frozen_method(self.split, feature_fn(self.backbone, self.size), self.head))
        )
        from_scratch = partial(reinitialize, self.backbone)
        return {
            UNTRAINED: _for_any_count(untrained),
            SCRATCH: partial(self._trained_by_steps, SCRATCH, from_scratch, SCRATCH_CONFIG, SCRATCH),
            PRETRAINED: pretrained,
        }

    def num_results(self) -> int:
        """How many results there are: methods x draws at every count."""
        return 3 * sum(self.num_draws(count) for count in self.counts)

    def num_training_steps(self) -> int:
        """Supervised steps of all results."""
        total = 0
        for config in filter(None, (SCRATCH_CONFIG, self.config)):
            tuning_steps = self._num_steps(config, self._num_labels(self._tuning_count()))
            total += SELECTION_FOLDS * len(LR_FACTORS) * tuning_steps
            for count in self.counts:
                total += self.num_draws(count) * self._num_steps(config, self._num_labels(count))
        return total

    def steps(self) -> dict[str, list[int]]:
        """Steps of one training at each number of labels, by method; 0 where the head is not trained by steps."""
        counts = [self._num_labels(count) for count in self.counts]
        return {
            PRETRAINED: [self._num_steps(self.config, count) if self.config else 0 for count in counts],
            SCRATCH: [self._num_steps(SCRATCH_CONFIG, count) for count in counts],
        }

    def num_draws(self, count: LabelsPerClass) -> int:
        """Draws of labels at this count; one where all labels are used."""
        return 1 if count is None else self.draws

    def _num_labels(self, count: LabelsPerClass) -> int:
        return len(draw_labels(self.split.labels, count, self.seed, 0))

    def _num_steps(self, config: FineTuneConfig, num_labels: int) -> int:
        factor = SCRATCH_STEPS_RATIO if config is SCRATCH_CONFIG else 1
        if self.finetune_steps:
            return factor * self.finetune_steps
        return min(config.num_steps(num_labels), factor * MAX_FINETUNE_STEPS)

    def _tuning_count(self) -> LabelsPerClass:
        """Labels of each class on whose folds learning rates are selected."""
        numbers = [count for count in self.counts if count is not None]
        return min(TUNING_LABELS_PER_CLASS, max(numbers)) if numbers else None

    def _trained_by_steps(
        self, name: str, build_backbone_fn: BackboneFn, config: FineTuneConfig, head: str, count: LabelsPerClass
    ) -> TrainAndTest:
        tuning_count = self._tuning_count()
        indices = draw_labels(self.split.labels, tuning_count, self.seed, 0)

        def make(config: FineTuneConfig) -> TrainAndTest:
            config = replace(config, processes=0 if self.auto_processes else 1)
            return trained_method(self.split, build_backbone_fn, self.size, config, head)

        def compute() -> dict[str, Any]:
            limited = with_steps(config, self._num_steps(config, len(indices)))
            return {"factor": choose_lr_factor(make, limited, self.split, indices, stable_hash("rate", self.seed))}

        factor = self.get_or_compute(f"lr factor of {name}, {tuning_count or 'all'} per class", compute)["factor"]
        return make(scale_lr(with_steps(config, self._num_steps(config, self._num_labels(count))), factor))

    def _point(self, methods: Mapping[str, MethodOfCount], count: LabelsPerClass) -> CurvePoint:
        correct: dict[str, np.ndarray] = {}
        for name, method_of in methods.items():
            method = method_of(count)
            rows = [self._correct(name, method, count, draw) for draw in range(self.num_draws(count))]
            correct[name] = np.stack(rows).astype(float)  # R n
        groups = self.split.interval_groups()
        accuracy = {name: paired_interval(table, signed=False, groups=groups) for name, table in correct.items()}
        gain = paired_interval(correct[PRETRAINED] - correct[SCRATCH], groups=groups)
        return CurvePoint(count, self._num_labels(count), self.num_draws(count), accuracy, gain)

    def _correct(self, name: str, train_and_test: TrainAndTest, count: LabelsPerClass, draw: int) -> np.ndarray:
        """n, bool: whether a method classifies each test image correctly, after one draw of labels."""

        def compute() -> dict[str, Any]:
            indices = draw_labels(self.split.labels, count, self.seed, draw)
            seed = stable_hash("training", self.seed, draw)
            score = evaluate_method(train_and_test, self.split, indices, seed, cross_validate=False)
            return {"correct": pack_bits(score.correct.numpy())}

        tuned = name == SCRATCH or (name == PRETRAINED and self.config)
        tuning = f", lr factor of {self._tuning_count() or 'all'} per class" if tuned else ""
        result = self.get_or_compute(f"{name}, {count or 'all'} per class, draw {draw}{tuning}", compute)
        self.num_done += 1
        self.progress(self.num_done, self.num_results())
        return unpack_bits(result["correct"])


def _for_any_count(train_and_test: TrainAndTest) -> MethodOfCount:
    """The same method for any number of labels."""
    return lambda count: train_and_test
