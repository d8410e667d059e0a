"""What a pretraining gained over training from scratch on the same few labels, with paired intervals.

Labels are drawn several times. Each draw trains every contender on the same pictures, and all are tested on the same
pictures, so that differences are paired. Both sides that are trained are tuned alike, with as many trials each: the
strength of augmentation and when to stop are chosen on folds of the first draw's labels (``downstream.choose``). The
test pictures choose nothing: where the folds ask for no step of fine-tuning, it is the linear probe that is compared.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from headway.data.split import per_class
from headway.downstream.choose import FEW, Choice, choose
from headway.downstream.classifier import Classifier
from headway.downstream.transfer import FINE_TUNE, FROM_SCRATCH, FineTune, new_head, supervise
from headway.downstream.tune import scaled_head
from headway.measure.metrics import paired_interval
from headway.verdict.contest import LINEAR, Contest, Frozen
from headway.verdict.trial import PIXEL, SCRATCH, UNTRAINED, features_of

TUNED = "pretrained fine-tuned"
NAMES = (PIXEL, UNTRAINED, SCRATCH, LINEAR, TUNED)
FOLDS = 2
"""Parts into which the labels of the first draw are cut to tune both sides."""
FEWEST = 3
"""Draws of labels that are gone through whatever the time: one has no interval, and that of two says nothing."""


class Row(NamedTuple):
    """A contender: its accuracy in per cent and the 95 % interval over label draws and test pictures."""

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
        contender: Which row was compared with "from scratch".
    """

    points: float
    low: float
    high: float
    contender: str


class Side(NamedTuple):
    """One of the two that are trained.

    Attributes:
        backbone: Where training starts.
        recipe: How it is done, before it is tuned.
        head: From rows of the first draw (none: all) to the output layer that training on those starts from.
        from_probe: Whether that layer is a linear probe, so that not training at all is a choice.
    """

    backbone: nn.Module
    recipe: FineTune
    head: Callable[[Tensor | None], nn.Module]
    from_probe: bool


class Verdict(NamedTuple):
    """What a comparison came to.

    Attributes:
        rows: The contenders.
        gain: Of pretraining over training from scratch.
        classifier: The pretrained one that was compared, of the first draw; its probabilities are calibrated.
        choices: What the folds chose, by the name of the row that was trained.
        draws: How many draws of labels were gone through.
    """

    rows: list[Row]
    gain: Gain
    classifier: Classifier
    choices: dict[str, Choice]
    draws: int


def judge(
    contest: Contest,
    frozen: Frozen,
    *,
    per_class_count: int,
    seed: int,
    scratch: FineTune = FROM_SCRATCH,
    fine_tune: FineTune = FINE_TUNE,
    left: Callable[[], float] = lambda: float("inf"),
    progress: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Tune both sides, train them on each draw of labels, and test everything on the same pictures.

    Args:
        contest: Backbones and pictures.
        frozen: What ``probe_frozen`` found with the same count and seed; fine-tuning starts from its heads.
        per_class_count: Labels a class in each draw.
        seed: Of draws and training.
        scratch: How training from scratch is done, before it is tuned.
        fine_tune: How fine-tuning is done, before it is tuned.
        left: Gives the seconds that remain. Where they run short, draws are left out.
        progress: Told how many parts of how many are done: a side's trials, or its training on one draw.
    """
    c, draws = contest, [per_class(contest.labels, per_class_count, seed=seed + i) for i in range(len(frozen.heads))]
    first, classes = draws[0], len(c.classes)
    features = features_of(c.pretrained, c.size)(c.images[first])  # n D
    width = features.shape[1]

    def probe(rows: Tensor | None) -> nn.Module:
        rows = torch.arange(len(first)) if rows is None else rows
        return scaled_head(features[rows], c.labels[first[rows]], classes, seed, groups=c.together(first[rows]))

    sides = {
        SCRATCH: Side(c.untrained, scratch, lambda rows: new_head(width, classes, seed), False),
        TUNED: Side(c.pretrained, fine_tune, probe, True),
    }
    done, parts = 0, len(sides) * (1 + len(draws))

    def tick() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, parts)

    choices = {}
    for name, side in sides.items():
        choices[name] = choose(
            side.backbone, side.head, c.images[first], c.labels[first], c.classes, c.size,
            recipe=side.recipe, folds=FOLDS, seed=seed, from_probe=side.from_probe, groups=c.together(first),
        )  # fmt: skip
        tick()
    right: dict[str, list[Tensor]] = {SCRATCH: [], TUNED: []}
    kept: dict[str, Classifier] = {}
    for draw, chosen in enumerate(draws):
        began = time.perf_counter()
        heads = {SCRATCH: new_head(width, classes, seed + draw), TUNED: frozen.heads[draw]}
        for name, side in sides.items():
            choice, classifier = choices[name], Classifier(side.backbone, heads[name], c.classes, c.size, "linear")
            if stop := choice.steps(len(chosen)):
                classifier = supervise(
                    side.backbone, heads[name], c.images[chosen], c.labels[chosen], c.classes, c.size,
                    seed=seed + draw, choices=choice.choices, stop=stop,
                )._replace(temperature=choice.temperature)  # fmt: skip
            right[name].append(classifier.probabilities(c.test_images).argmax(1) == c.test_labels)
            kept.setdefault(name, classifier)
            tick()
        if draw + 1 >= FEWEST and left() < time.perf_counter() - began:
            break
    if progress:
        progress(parts, parts)
    count = len(right[TUNED])
    every = {name: rows[:count] for name, rows in frozen.right.items()}
    every |= {name: torch.stack(rows) for name, rows in right.items()}
    table = {name: rows.float().numpy() for name, rows in every.items()}  # draws n
    rows = [Row(name, *paired_interval(table[name], signed=False, groups=c.test_groups)) for name in NAMES]
    contender = TUNED if choices[TUNED].check else LINEAR
    gain = Gain(*paired_interval(table[contender] - table[SCRATCH], groups=c.test_groups), contender=contender)
    return Verdict(rows, gain, kept[TUNED], choices, count)


def trials(labels: int) -> int:
    """Trials of one side with so many labels: on each fold, at two strengths of augmentation where labels are few."""
    return FOLDS * (2 if labels <= FEW else 1)
