"""Contenders on equal terms: each is a function that learns from some labelled pictures and is tested on others.

    trial(chosen, held, seed) -> bool, one a tested picture: was it named rightly?

``chosen`` are positions of the pictures that it may learn from; ``held`` those to test it on, or none for the test set.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headway.backbones.load import architecture, from_architecture
from headway.data.picked import Pictures, pick
from headway.data.split import folds, per_class, some_folds
from headway.downstream.features import extract
from headway.downstream.heads import FRESH, NearestNeighbours, fresh_head
from headway.downstream.labelled import Labelled
from headway.downstream.tune import FROM_SCRATCH, FineTune, linear_head, scaled_head, supervise
from headway.draws import hashed, seeded
from headway.views.geometry import centre_resize, to_unit

Trial = Callable[[Tensor, Tensor | None, int], Tensor]
Describe = Callable[[Pictures], Tensor]
Start = Callable[[int], nn.Module]

PIXEL, UNTRAINED, SCRATCH = "raw pixels", "untrained", "from scratch"
TOGETHER = 1024
"""Pictures that are widened to floating point at a time."""
PIXELS = 32
"""Side to which pictures are brought where raw pixels stand for them."""
FOLDS = 3
"""Parts into which labels are cut where something is chosen by them."""
RATES = (1.0, 0.3, 3.0)
"""Factors on the learning rate that every training which moves the backbone chooses from on folds."""
LONGER = 2
"""Training from scratch takes so many times the steps of fine-tuning: it has farther to go."""
SCRATCH_LONG = replace(FROM_SCRATCH, epochs=LONGER * FROM_SCRATCH.epochs, least=LONGER * FROM_SCRATCH.least)


class Score(NamedTuple):
    """How a contender did with one draw of labels.

    Attributes:
        right: n, bool: was each test picture named rightly?
        folds: The share of held-out training labels that was named rightly; none where nobody asked.
    """

    right: Tensor
    folds: float | None


def raw_pixels(images: Pictures) -> Tensor:
    """N C S S -> N C*32*32: what a linear map or a clustering sees without any network."""
    return torch.cat([centre_resize(to_unit(part), PIXELS).flatten(1) for part in images.split(TOGETHER)])


def features_of(backbone: nn.Module, size: int) -> Describe:
    """A function from pictures to the backbone's pooled features."""
    return lambda images: extract(backbone, images, size)


def fresh(backbone: nn.Module, seed: int) -> nn.Module:
    """The same architecture with new weights."""
    with seeded(seed):
        return from_architecture(architecture(backbone))


def frozen(pictures: Labelled, describe: Describe, head: str = "linear") -> Trial:
    """A linear probe, or k-NN (knn), on features that nobody trains further."""
    test = cache(lambda: describe(pictures.test_images))  # n D, computed when it is first asked for
    features_at = remembering(describe, pictures.images)

    def trial(chosen: Tensor, held: Tensor | None, seed: int) -> Tensor:
        bank, labels, classes = features_at(chosen), pictures.labels[chosen], len(pictures.classes)
        layer = (
            NearestNeighbours(bank, labels, classes) if head == "knn"
            else linear_head(bank, labels, classes, seed, together(pictures, chosen))
        )  # fmt: skip
        features = test() if held is None else features_at(held)  # n D
        with torch.no_grad():
            return layer(features).argmax(1) == _truth(pictures, held)

    return trial


def remembering(describe: Describe, images: Pictures) -> Callable[[Tensor], Tensor]:
    """A function from n positions to features, n D, that looks at each picture once: draws and folds share many."""
    known, row = torch.empty(0), torch.full((len(images),), -1)  # N' D of those seen, and where in it a picture is

    def features(places: Tensor) -> Tensor:
        nonlocal known
        new = places[row[places] < 0]
        if len(new):
            found = describe(pick(images, new))
            row[new] = len(known) + torch.arange(len(new))
            known = torch.cat([known, found]) if len(known) else found
        return known[row[places]]

    return features


def together(pictures: Labelled, chosen: Tensor) -> Tensor | None:
    """n, int64: the groups of chosen pictures, which no fold may part; none: no two belong together."""
    return None if pictures.groups is None else pictures.groups[chosen]


def trained(pictures: Labelled, start: Start, size: int, choices: FineTune, head: str) -> Trial:
    """A head that is trained by steps, alone or with the backbone; or all of it, from scratch.

    Args:
        pictures: To learn from and to test with.
        start: Gives the backbone to start from, by the seed of the training; it is left as it is.
        size: Side of the view in pixels.
        choices: How it is trained.
        head: attentive, mlp, finetune or lora, begun as ``transfer`` begins it; from scratch: a fresh linear one.
    """

    def trial(chosen: Tensor, held: Tensor | None, seed: int) -> Tensor:
        images, labels, classes = pick(pictures.images, chosen), pictures.labels[chosen], pictures.classes
        backbone: Any = start(seed)
        if head == SCRATCH or head in FRESH:
            first = fresh_head(head, backbone.embed_dim, len(classes), seed)
        else:
            features = extract(backbone, images, size)  # n D
            first = scaled_head(features, labels, len(classes), seed, groups=together(pictures, chosen))
        classifier = supervise(backbone, first, images, labels, classes, size, seed=seed, choices=choices)
        tested = pictures.test_images if held is None else pick(pictures.images, held)
        return classifier.probabilities(tested).argmax(1) == _truth(pictures, held)

    return trial


def draw_labels(labels: Tensor, count: int | None, seed: int, draw: int) -> Tensor:
    """Positions of ``count`` pictures a class (none: all), the same for every contender of this seed and draw."""
    return torch.arange(len(labels)) if count is None else per_class(labels, count, seed=hashed("labels", seed, draw))


def score(trial: Trial, pictures: Labelled, chosen: Tensor, seed: int, by_folds: bool) -> Score:
    """Let a contender learn from the chosen labels, for the test set and, by folds, without it."""
    held = on_folds(trial, pictures, chosen, seed) if by_folds else None
    return Score(trial(chosen, None, seed), held)


def on_folds(trial: Trial, pictures: Labelled, chosen: Tensor, seed: int) -> float:
    """The share of held-out labels that is named rightly, over folds of the chosen pictures; no test picture is met."""
    parts = folds(pictures.labels[chosen], FOLDS, seed, together(pictures, chosen))
    right = [trial(chosen[train], chosen[held], seed) for train, held in parts]
    return float(torch.cat(right).double().mean()) if right else 0.0  # all of one group: nothing can be held out


def can_hold_out(pictures: Labelled, chosen: Tensor) -> bool:
    """Whether some class of the chosen pictures has a second one, of another group, that folds can hold out."""
    return bool(some_folds(pictures.labels[chosen], FOLDS, 1, groups=together(pictures, chosen)))


def tune(make: Callable[[FineTune], Trial], start: FineTune, pictures: Labelled, chosen: Tensor, seed: int) -> float:
    """The factor on the learning rate that recognises most on folds of the chosen pictures; the first of equals."""
    return max(RATES, key=lambda factor: on_folds(make(at_rate(start, factor)), pictures, chosen, seed))


def at_rate(choices: FineTune, factor: float) -> FineTune:
    """The same training at ``factor`` times the learning rate."""
    return replace(choices, optim=replace(choices.optim, lr=choices.optim.lr * factor))


def for_steps(choices: FineTune, steps: int) -> FineTune:
    """The same training for exactly so many steps."""
    return replace(choices, epochs=0, least=steps)


def _truth(pictures: Labelled, held: Tensor | None) -> Tensor:
    return pictures.test_labels if held is None else pictures.labels[held]
