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
from headway.downstream.transfer import FINE_TUNE, FROM_SCRATCH, FineTune, linear_head, new_head, supervise
from headway.measure.metrics import paired_interval
from headway.verdict.trial import FOLDS, PIXEL, SCRATCH, UNTRAINED, features_of, raw_pixels

LINEAR, TUNED = "pretrained linear", "pretrained fine-tuned"
NAMES = (PIXEL, UNTRAINED, SCRATCH, LINEAR, TUNED)


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


class Frozen(NamedTuple):
    """Linear probes on features that nobody trains further, over several draws of labels.

    Attributes:
        right: draws N' for raw pixels, untrained and pretrained linear: whether each test picture was named rightly.
        heads: The probe on pretrained features of each draw.
    """

    right: dict[str, Tensor]
    heads: list[nn.Linear]


def probe_frozen(
    contest: Contest,
    *,
    per_class_count: int,
    draws: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Frozen:
    """Fit a linear probe to raw pixels, untrained and pretrained features on each draw of labels.

    Args:
        contest: Backbones and pictures.
        per_class_count: Labels a class in each draw.
        draws: How many draws.
        seed: Of the draws.
        progress: Told how many draws of how many are done.
    """
    c = contest
    describe: dict[str, Callable[[Tensor], Tensor]] = {
        PIXEL: raw_pixels,
        UNTRAINED: features_of(c.untrained, c.size),
        LINEAR: features_of(c.pretrained, c.size),
    }
    tests = {name: features(c.test_images) for name, features in describe.items()}
    right: dict[str, list[Tensor]] = {name: [] for name in describe}
    heads = []
    for draw in range(draws):
        chosen = per_class(c.labels, per_class_count, seed=seed + draw)
        for name, features in describe.items():
            head = linear_head(features(c.images[chosen]), c.labels[chosen], len(c.classes), seed)
            right[name].append(_right(head, tests[name], c.test_labels))
        heads.append(head)  # of the last name, LINEAR
        if progress:
            progress(draw + 1, draws)
    return Frozen({name: torch.stack(rows) for name, rows in right.items()}, heads)


def judge(
    contest: Contest,
    frozen: Frozen,
    *,
    per_class_count: int,
    seed: int,
    scratch: FineTune = FROM_SCRATCH,
    fine_tune: FineTune = FINE_TUNE,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Row], Gain, list[Classifier]]:
    """Train from scratch and fine-tune on the same draws of labels, and test everything on the same pictures.

    Args:
        contest: Backbones and pictures.
        frozen: What ``probe_frozen`` found with the same count and seed; fine-tuning starts from its heads.
        per_class_count: Labels a class in each draw.
        seed: Of draws and training.
        scratch: How training from scratch is done.
        fine_tune: How fine-tuning is done.
        progress: Told how many trainings of how many are done.

    Returns:
        The rows, the gain, and the pretrained classifiers of the first draw (linear, fine-tuned).
    """
    c = contest
    jobs, done = len(frozen.heads) * 2 + FOLDS, 0
    trained: dict[str, list[Tensor]] = {SCRATCH: [], TUNED: []}
    first: list[Classifier] = []

    def tick() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, jobs)

    for draw, probe in enumerate(frozen.heads):
        chosen = per_class(c.labels, per_class_count, seed=seed + draw)
        blank = new_head(probe.in_features, len(c.classes), seed + draw)
        for name, backbone, head, choices in (
            (SCRATCH, c.untrained, blank, scratch),
            (TUNED, c.pretrained, probe, fine_tune),
        ):
            classifier = supervise(
                backbone, head, c.images[chosen], c.labels[chosen], c.classes, c.size, seed=seed + draw,
                choices=choices,
            )  # fmt: skip
            trained[name].append(classifier.probabilities(c.test_images).argmax(1) == c.test_labels)
            tick()
        first = first or [Classifier(c.pretrained, probe, c.classes, c.size, "linear"), classifier]
    chosen = per_class(c.labels, per_class_count, seed=seed)
    contender = _better_on_folds(c, c.images[chosen], c.labels[chosen], seed, fine_tune, tick)
    right = frozen.right | {name: torch.stack(rows) for name, rows in trained.items()}
    table = {name: rows.float().numpy() for name, rows in right.items()}  # draws n
    rows = [Row(name, *paired_interval(table[name], signed=False)) for name in NAMES]
    gain = Gain(*paired_interval(table[contender] - table[SCRATCH]), contender=contender)
    return rows, gain, first


def _right(head: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return head(features).argmax(1) == labels  # n


def _better_on_folds(
    c: Contest, images: Tensor, labels: Tensor, seed: int, fine_tune: FineTune, tick: Callable[[], None]
) -> str:
    """Linear probe or fine-tuning: whichever is right more often on held-out folds of these training labels."""
    right = {LINEAR: 0, TUNED: 0}
    features = extract(c.pretrained, images, c.size)  # n D
    for train, held in folds(labels, FOLDS, seed=seed):
        probe = linear_head(features[train], labels[train], len(c.classes), seed)
        right[LINEAR] += int(_right(probe, features[held], labels[held]).sum())
        tuned = supervise(
            c.pretrained, probe, images[train], labels[train], c.classes, c.size, seed=seed, choices=fine_tune
        )
        right[TUNED] += int((tuned.probabilities(images[held]).argmax(1) == labels[held]).sum())
        tick()
    return max(right, key=right.__getitem__)
