"""What a pretraining gained over training from scratch on the same few labels, with paired intervals.

Labels are drawn several times. Each draw trains every contender on the same pictures, and all are tested on the same
pictures, so that differences are paired. The test pictures choose nothing: whether the pretrained backbone is judged by
its linear probe or by fine-tuning is decided on folds of the training labels.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from headway.data.split import folds, per_class
from headway.downstream.classifier import Classifier
from headway.downstream.features import extract
from headway.downstream.transfer import FINE_TUNE, FROM_SCRATCH, FineTune, Head, new_head, supervise, transfer
from headway.measure.linear import linear_probe
from headway.measure.metrics import paired_interval
from headway.views.geometry import centre_resize, to_unit

PIXELS = 32
"""Side to which pictures are brought for the probe on raw pixels."""


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


class Contest(NamedTuple):
    """Everything that a comparison on labels needs.

    Attributes:
        pretrained: The backbone of the run.
        untrained: The same architecture with fresh weights.
        images: N C S S, pictures whose labels may be drawn; stored with pixels to spare for crops.
        labels: N, int64.
        test_images: N' C S S.
        test_labels: N', int64.
        classes: K names.
        size: Side of the view in pixels.
    """

    pretrained: nn.Module
    untrained: nn.Module
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    size: int


def judge(
    contest: Contest,
    *,
    per_class_count: int,
    draws: int,
    seed: int,
    scratch: FineTune = FROM_SCRATCH,
    fine_tune: FineTune = FINE_TUNE,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Row], Gain, list[Classifier]]:
    """Train every contender on several draws of labels and test them all on the same pictures.

    Args:
        contest: Backbones and pictures.
        per_class_count: Labels a class in each draw.
        draws: How many draws.
        seed: Of draws and training.
        scratch: How training from scratch is done.
        fine_tune: How fine-tuning is done.
        progress: Told how many trainings of how many are done.

    Returns:
        The rows, the gain, and the pretrained classifiers of the first draw (linear, fine-tuned).
    """
    c, classes = contest, len(contest.classes)
    jobs, done = draws * 2 + 3, 0
    pixel_test = _pixels(c.test_images)
    untrained_test, pretrained_test = (extract(net, c.test_images, c.size) for net in (c.untrained, c.pretrained))
    right: dict[str, list[Tensor]] = {name: [] for name in NAMES}
    first: list[Classifier] = []

    def tick() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, jobs)

    for draw in range(draws):
        chosen = per_class(c.labels, per_class_count, seed=seed + draw)
        images, labels = c.images[chosen], c.labels[chosen]
        frozen = (
            (_pixels(images), pixel_test),
            (extract(c.untrained, images, c.size), untrained_test),
            (extract(c.pretrained, images, c.size), pretrained_test),
        )
        for name, (features, test) in zip((PIXEL, UNTRAINED, LINEAR), frozen, strict=True):
            probe, _ = linear_probe(features, labels, classes, seed=seed)
            right[name].append(probe.logits(test).argmax(1) == c.test_labels)
        head = new_head(frozen[2][0].shape[1], classes, seed + draw)
        from_scratch = supervise(
            c.untrained, head, images, labels, c.classes, c.size, seed=seed + draw, choices=scratch
        )
        right[SCRATCH].append(from_scratch.probabilities(c.test_images).argmax(1) == c.test_labels)
        tick()
        tuned = transfer(
            c.pretrained, images, labels, c.classes, c.size, head="finetune", seed=seed + draw, fine_tune=fine_tune
        )
        right[TUNED].append(tuned.probabilities(c.test_images).argmax(1) == c.test_labels)
        tick()
        if not first:
            linear = transfer(c.pretrained, images, labels, c.classes, c.size, head="linear", seed=seed)
            first = [linear, tuned]
    chosen = per_class(c.labels, per_class_count, seed=seed)
    contender = _better_on_folds(c, c.images[chosen], c.labels[chosen], seed, fine_tune, tick)
    table = {name: torch.stack(rows).float().numpy() for name, rows in right.items()}  # draws n
    rows = [Row(name, *paired_interval(table[name], signed=False)) for name in NAMES]
    gain = Gain(*paired_interval(table[contender] - table[SCRATCH]), contender=contender)
    return rows, gain, first


PIXEL, UNTRAINED, SCRATCH = "raw pixels", "untrained", "from scratch"
LINEAR, TUNED = "pretrained linear", "pretrained fine-tuned"
NAMES = (PIXEL, UNTRAINED, SCRATCH, LINEAR, TUNED)


def _pixels(images: Tensor) -> Tensor:
    return centre_resize(to_unit(images), PIXELS).flatten(1)  # N C*S*S


def _better_on_folds(
    c: Contest, images: Tensor, labels: Tensor, seed: int, fine_tune: FineTune, tick: Callable[[], None]
) -> str:
    """Linear probe or fine-tuning: whichever is right more often on held-out folds of these training labels."""
    right = {LINEAR: 0, TUNED: 0}
    heads: dict[str, Head] = {LINEAR: "linear", TUNED: "finetune"}
    for train, held in folds(labels, 3, seed=seed):
        for name, head in heads.items():
            classifier = transfer(
                c.pretrained, images[train], labels[train], c.classes, c.size, head=head, seed=seed,
                fine_tune=fine_tune,
            )  # fmt: skip
            right[name] += int((classifier.probabilities(images[held]).argmax(1) == labels[held]).sum())
        tick()
    return max(right, key=right.__getitem__)
