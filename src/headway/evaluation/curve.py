"""Accuracy against the number of labels: a run, training from scratch, and the untrained network.

At every number, all methods learn from the same draws of labels. Intervals cover these draws and the test images. The
run is one pretraining: the intervals do not cover other pretraining seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from headway.backbones.weights import weights_sha256
from headway.downstream.finetuning.model_selection import num_trainings
from headway.downstream.heads.registry import HEADS, HeadKind
from headway.downstream.labeled_split import LabeledSplit
from headway.downstream.transfer import DEFAULT_FOLDS
from headway.errors import HeadwayError
from headway.evaluation.evaluator import Evaluator
from headway.evaluation.methods import (
    PRETRAINED,
    SCRATCH,
    SCRATCH_HEAD,
    SCRATCH_STEPS_RATIO,
    UNTRAINED,
    LabelsPerClass,
    Method,
    draw_labels,
    fixed,
    method_head,
    reinitialize,
    scratch_method,
    with_steps,
)
from headway.evaluation.result_cache import GetOrCompute, pack_bits, unpack_bits
from headway.metrics.intervals import Interval, paired_interval
from headway.protocol import Backbone
from headway.utils.hashing import stable_hash
from headway.utils.progress import Progress

MAX_FINETUNE_STEPS = 1500
"""Default limit on the steps of one training (from scratch: SCRATCH_STEPS_RATIO times as many)."""


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
        evaluator: Trains and tests the methods.
        head: The head of the run, as ``find_head`` names it.
        counts: Labels of each class, ascending; None at the end: all.
        draws: Draws of labels at each count but "all".
        seed: Of draws and training.
        finetune_steps: Steps of one training (from scratch: SCRATCH_STEPS_RATIO times as many); 0: the recipe's, at
            most MAX_FINETUNE_STEPS.
        get_or_compute: The cache of results.
    """

    backbone: Backbone
    evaluator: Evaluator
    head: str
    counts: Sequence[LabelsPerClass]
    draws: int
    seed: int
    finetune_steps: int
    get_or_compute: GetOrCompute

    def points(self, progress: Progress) -> list[CurvePoint]:
        """A point for every count; ``progress`` gets the number of finished results and of all of them."""
        untrained = fixed(reinitialize(self.backbone, stable_hash("untrained", self.seed)))
        points, done = list[CurvePoint](), 0
        for count in self.counts:
            scratch_head, head = self.heads(count)
            methods = [
                Method(UNTRAINED, untrained, HEADS["linear"]),
                scratch_method(untrained, scratch_head),
                Method(PRETRAINED, fixed(self.backbone), head),
            ]
            correct: dict[str, np.ndarray] = {}
            for method in methods:
                rows = []
                for draw in range(self.num_draws(count)):
                    rows.append(self._correct(method, count, draw))
                    progress(done := done + 1, self.num_results())
                correct[method.name] = np.stack(rows).astype(float)  # R n
            points.append(self._point(count, correct))
        return points

    def heads(self, count: LabelsPerClass) -> tuple[HeadKind, HeadKind]:
        """The heads of training from scratch and of the run, with the steps that they take with so many labels."""
        run = method_head(self.head, self.finetune_steps)
        scratch = with_steps(SCRATCH_HEAD, SCRATCH_STEPS_RATIO * self.finetune_steps)
        limited = [
            with_steps(head, min(head.num_steps(self._num_labels(count)), limit))
            for head, limit in ((scratch, SCRATCH_STEPS_RATIO * MAX_FINETUNE_STEPS), (run, MAX_FINETUNE_STEPS))
        ]
        return (scratch, run) if self.finetune_steps else (limited[0], limited[1])

    def num_results(self) -> int:
        """How many results there are: methods x draws at every count."""
        return 3 * sum(self.num_draws(count) for count in self.counts)

    def num_training_steps(self) -> int:
        """Supervised steps of all results, those on folds included."""
        total = 0
        for count in self.counts:
            trainings = self.num_draws(count) * (1 + num_trainings(self._num_labels(count), self.evaluator.folds))
            total += trainings * sum(head.num_steps(self._num_labels(count)) for head in self.heads(count))
        return total

    def steps(self) -> dict[str, list[int]]:
        """Steps of one training at each number of labels, by method; 0 where the head is not trained by steps."""
        by_count = [[head.num_steps(self._num_labels(count)) for head in self.heads(count)] for count in self.counts]
        return dict(zip((SCRATCH, PRETRAINED), map(list, zip(*by_count, strict=True)), strict=True))

    def num_draws(self, count: LabelsPerClass) -> int:
        """Draws of labels at this count; one where all labels are used."""
        return 1 if count is None else self.draws

    def _num_labels(self, count: LabelsPerClass) -> int:
        return len(draw_labels(self.evaluator.split.labels, count, self.seed, 0))

    def _point(self, count: LabelsPerClass, correct: dict[str, np.ndarray]) -> CurvePoint:
        groups = self.evaluator.split.interval_groups()
        accuracy = {name: paired_interval(table, signed=False, groups=groups) for name, table in correct.items()}
        gain = paired_interval(correct[PRETRAINED] - correct[SCRATCH], groups=groups)
        return CurvePoint(count, self._num_labels(count), self.num_draws(count), accuracy, gain)

    def _correct(self, method: Method, count: LabelsPerClass, draw: int) -> np.ndarray:
        """n, bool: whether a method classifies each test image correctly, after one draw of labels."""

        def compute() -> dict[str, Any]:
            indices = draw_labels(self.evaluator.split.labels, count, self.seed, draw)
            score = self.evaluator.score(method, indices, stable_hash("training", self.seed, draw))
            return {"correct": pack_bits(score.correct.numpy())}

        result = self.get_or_compute(f"{method.name}, {count or 'all'} per class, draw {draw}", compute)
        return unpack_bits(result["correct"])


def parse_counts(text: str) -> list[LabelsPerClass]:
    """Labels per class, ascending, "all" (None) last. Raises HeadwayError for anything else."""
    parts = {part.strip() for part in text.split(",") if part.strip()}
    numbers = parts - {"all"}
    if not parts or not all(part.isdecimal() and int(part) > 0 for part in numbers):
        raise HeadwayError(
            "value-unreadable", f"--labels-per-class takes numbers from 1 and 'all', separated by commas, got '{text}'"
        )
    return [*sorted(set(map(int, numbers))), *([None] if "all" in parts else [])]


def clip_counts(counts: Sequence[LabelsPerClass], largest_class: int) -> list[LabelsPerClass]:
    """Replace counts that no class reaches by None, all labels."""
    possible: list[LabelsPerClass] = [count for count in counts if count is not None and count < largest_class]
    return possible if len(possible) == len(counts) else [*possible, None]


def resume_conditions(
    backbone: Backbone, split: LabeledSplit, head: str, finetune_steps: int, seed: int
) -> dict[str, Any]:
    """Everything that must be unchanged when a curve is resumed."""
    return {
        "run": weights_sha256(backbone), "labels": split.contents_hash(), "head": head,
        "finetune_steps": finetune_steps, "seed": seed, "group_by": split.groups_hash(), "folds": DEFAULT_FOLDS,
    }  # fmt: skip
