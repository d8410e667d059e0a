"""Accuracy against the number of labels: one run beside training from scratch and the untrained network.

At every number the same labels are drawn for all, several times. Intervals are over those draws and over test pictures;
the run is one pretraining, and other pretrainings are not in them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from headway.downstream.labelled import Labelled
from headway.downstream.tune import FineTune
from headway.draws import hashed
from headway.measure.metrics import Interval, paired_interval
from headway.verdict.cells import Keep, pack, unpack
from headway.verdict.heads import kind_of, recipe_of
from headway.verdict.trial import (
    FOLDS,
    LONGER,
    RATES,
    SCRATCH,
    SCRATCH_LONG,
    UNTRAINED,
    Start,
    Trial,
    at_rate,
    draw_labels,
    features_of,
    for_steps,
    fresh,
    frozen,
    score,
    trained,
    tune,
)

PRETRAINED = "pretrained"
TUNED_AT = 10
"""Labels a class (or the largest number asked for, if less) on whose folds learning rates are chosen."""
MOST = 1500
"""Steps of one training at most (from scratch: twice as many), unless they are given."""
Count = int | None


class Point(NamedTuple):
    """What so many labels are good for.

    Attributes:
        per_class: Labels a class; None: all there are.
        labels: Labelled pictures, over all classes.
        draws: How often they were drawn; all of them only once.
        rows: Accuracy of each contender, in per cent.
        gain: Of the pretrained network over training from scratch, in points, paired.
    """

    per_class: Count
    labels: int
    draws: int
    rows: dict[str, Interval]
    gain: Interval


class Curve:
    """Everything that a curve needs.

    Args:
        backbone: Of the run.
        pictures: To learn from and to test with.
        size: Side of the view in pixels.
        head: How the run is passed on: of ``verdict.heads``.
        counts: Labels a class, ascending; None at the end: all.
        draws: Draws of labels at each count but "all".
        seed: Of draws and training.
        label_steps: Steps of one training (from scratch: twice as many); 0: 50 passes, 150 at least, MOST at most.
        keep: Computes a result, or reads it where it was computed before.
    """

    def __init__(
        self, backbone: nn.Module, pictures: Labelled, size: int, *, head: str, counts: Sequence[Count], draws: int,
        seed: int, label_steps: int, keep: Keep,
    ):  # fmt: skip
        self.backbone, self.pictures, self.size, self.head = backbone, pictures, size, head
        self.counts, self.draws, self.seed, self.label_steps = counts, draws, seed, label_steps
        self.recipe = recipe_of(head)
        self.keep, self.done = keep, 0
        self.progress: Callable[[int, int], None] = lambda done, of: None

    def points(self, progress: Callable[[int, int], None]) -> list[Point]:
        """A point for every count; ``progress`` is told how many results of how many are there."""
        self.progress, self.done = progress, 0
        contenders = self.contenders()
        return [self._point(contenders, count) for count in self.counts]

    def contenders(self) -> Mapping[str, Callable[[Count], Trial]]:
        """By name, how a contender learns from so many labels a class."""
        blank = fresh(self.backbone, hashed("untrained", self.seed))
        untrained = frozen(self.pictures, features_of(blank, self.size))
        passed_on: Callable[[Count], Trial] = (
            partial(self._trained, PRETRAINED, lambda seed: self.backbone, self.recipe, kind_of(self.head))
            if self.recipe else _always(frozen(self.pictures, features_of(self.backbone, self.size), self.head))
        )  # fmt: skip
        return {
            UNTRAINED: _always(untrained),
            SCRATCH: partial(self._trained, SCRATCH, partial(fresh, self.backbone), SCRATCH_LONG, SCRATCH),
            PRETRAINED: passed_on,
        }

    def results(self) -> int:
        """How many results there are: contenders x draws at every count."""
        return 3 * sum(self.draws_at(count) for count in self.counts)

    def training_steps(self) -> int:
        """Steps of training on labels, over all results."""
        total = 0
        for choices in filter(None, (SCRATCH_LONG, self.recipe)):
            total += FOLDS * len(RATES) * self._steps(choices, self._labels(self._tuned_at()))
            total += sum(self.draws_at(count) * self._steps(choices, self._labels(count)) for count in self.counts)
        return total

    def draws_at(self, count: Count) -> int:
        """Draws of labels at this count: all labels are drawn once."""
        return 1 if count is None else self.draws

    def _labels(self, count: Count) -> int:
        return len(draw_labels(self.pictures.labels, count, self.seed, 0))

    def _steps(self, choices: FineTune, labels: int) -> int:
        factor = LONGER if choices is SCRATCH_LONG else 1
        return factor * self.label_steps if self.label_steps else min(choices.steps(labels), factor * MOST)

    def _tuned_at(self) -> Count:
        known = [count for count in self.counts if count is not None]
        return min(TUNED_AT, max(known)) if known else None

    def _trained(self, name: str, start: Start, choices: FineTune, head: str, count: Count) -> Trial:
        count_tuned = self._tuned_at()
        at = draw_labels(self.pictures.labels, count_tuned, self.seed, 0)

        def make(choices: FineTune) -> Trial:
            return trained(self.pictures, start, self.size, choices, head)

        def compute() -> dict[str, Any]:
            shaped = for_steps(choices, self._steps(choices, len(at)))
            return {"factor": tune(make, shaped, self.pictures, at, hashed("rate", self.seed))}

        factor = self.keep(f"rate of {name}, {count_tuned or 'all'} a class", compute)["factor"]
        return make(at_rate(for_steps(choices, self._steps(choices, self._labels(count))), factor))

    def _point(self, contenders: Mapping[str, Callable[[Count], Trial]], count: Count) -> Point:
        right: dict[str, np.ndarray] = {}
        for name, make in contenders.items():
            trial = make(count)
            tables = [self._right(name, trial, count, draw) for draw in range(self.draws_at(count))]
            right[name] = np.stack(tables).astype(float)  # R n
        groups = self.pictures.tested_together()
        rows = {name: paired_interval(table, signed=False, groups=groups) for name, table in right.items()}
        gain = paired_interval(right[PRETRAINED] - right[SCRATCH], groups=groups)
        return Point(count, self._labels(count), self.draws_at(count), rows, gain)

    def _right(self, name: str, trial: Trial, count: Count, draw: int) -> np.ndarray:
        """n, bool: which test pictures a contender names rightly after one draw of labels."""

        def compute() -> dict[str, Any]:
            chosen = draw_labels(self.pictures.labels, count, self.seed, draw)
            found = score(trial, self.pictures, chosen, hashed("training", self.seed, draw), by_folds=False)
            return {"right": pack(found.right.numpy())}

        tuned = name == SCRATCH or (name == PRETRAINED and self.recipe)
        rate = f", rate of {self._tuned_at() or 'all'} a class" if tuned else ""
        cell = self.keep(f"{name}, {count or 'all'} a class, draw {draw}{rate}", compute)
        self.done += 1
        self.progress(self.done, self.results())
        return unpack(cell["right"])


def _always(trial: Trial) -> Callable[[Count], Trial]:
    """The same for any number of labels."""
    return lambda count: trial
