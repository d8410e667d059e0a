"""How strong to regularise, when to stop, and how sure to be: all chosen on folds of the training labels.

Each fold trains every candidate and looks at the pictures it held out at the start (the linear probe, where training
starts from one), at each quarter of the way and at the end. What has the lowest log loss, at its own best temperature
and over all folds, is chosen; that temperature goes with it. No other picture is looked at.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from headway.data.picked import Pictures, pick
from headway.data.split import some_folds, strata
from headway.downstream.calibrate import ENOUGH
from headway.downstream.features import look
from headway.downstream.heads import read
from headway.downstream.tune import FineTune, supervise
from headway.measure.calibration import fit_temperature, log_loss
from headway.views.augment import Augment

CHECKS = 4
"""Moments at which a training may be stopped, evenly spread, the end included."""
FEW = 1000
"""Up to so many labels the strength of regularisation is chosen too; with more, the recipe's own is taken."""
GENTLE = Augment(scale=(0.6, 1.0), jitter=0.0, grey=0.0, blur=0.0)
"""Crops that keep most of the picture, and mirrors."""


class Choice(NamedTuple):
    """What the folds ask for.

    Attributes:
        choices: How to train.
        name: Of the candidate.
        check: Stop after so many of CHECKS parts of the way; 0: don't begin.
        temperature: Divide the logits by it.
        loss: Log loss on held-out pictures, NaN where no fold could be made.
    """

    choices: FineTune
    name: str
    check: int
    temperature: float
    loss: float

    def steps(self, count: int) -> int:
        """When to stop on so many pictures."""
        steps = self.choices.steps(count)
        return min(self.check * every(steps), steps)

    def __str__(self) -> str:
        """One line for a person."""
        if math.isnan(self.loss):
            return "no class has a second label to hold out, so nothing is chosen: the recipe as it is, no temperature"
        when = f"stop after {self.check}/{CHECKS} of the way" if self.check else "keep the linear probe: more only hurt"
        return f"chosen on folds: {self.name} regularisation, {when}, temperature {self.temperature:.2f}"


def every(steps: int) -> int:
    """Steps between the moments at which training may be stopped."""
    return math.ceil(steps / CHECKS)


def choose(
    backbone: nn.Module,
    start: Callable[[Tensor | None], nn.Module],
    images: Pictures,
    labels: Tensor,
    classes: tuple[str, ...],
    size: int,
    *,
    recipe: FineTune,
    folds: int,
    seed: int,
    from_probe: bool,
    groups: Tensor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Choice:
    """Choose how to train; arguments as for ``transfer``.

    Args:
        backbone: Where training starts.
        start: From indices to the head that training on those starts from.
        images: N C H W.
        labels: N, int64; or N K of 0 and 1.
        classes: K names.
        size: Side of the view.
        recipe: The choices that candidates vary.
        folds: Parts.
        seed: Of the parts and the trainings.
        from_probe: Whether ``start`` gives a trained head, so that not training at all is a candidate.
        groups: N, int64: pictures of equal group are in one part.
        progress: Told how many trainings of how many are done.
    """
    parts = some_folds(strata(labels), folds, ENOUGH, seed, groups)
    candidates = {"strong": recipe}
    if len(labels) <= FEW:
        candidates["gentle"] = replace(recipe, task=replace(recipe.task, augment=GENTLE, smoothing=0.0))
    said: dict[tuple[str, int], list[Tensor]] = {}
    asked, done = [], 0
    for train, held in parts:
        head, tested = start(train), pick(images, held)
        asked.append(labels[held])
        before = [logits_of(backbone, head, tested, size)] if from_probe else []
        for name, choices in candidates.items():
            looks = before.copy()

            def watch(network: nn.Module, head: nn.Module, looks: list = looks, tested: Pictures = tested) -> None:
                looks.append(logits_of(network, head, tested, size))

            between = every(choices.steps(len(train)))
            supervise(
                backbone, head, pick(images, train), labels[train], classes, size,
                seed=seed, choices=choices, watch=watch, watch_every=between,
            )  # fmt: skip
            for check, logits in enumerate(looks, 0 if from_probe else 1):
                said.setdefault((name, check), []).append(logits)
            done += 1
            if progress:
                progress(done, len(parts) * len(candidates))
    best = Choice(recipe, "strong", CHECKS, 1.0, float("nan"))
    for (name, check), some in said.items():
        if len(some) == len(parts):  # a fold of a few steps more may have one look more
            logits, truth = torch.cat(some), torch.cat(asked)
            temperature = fit_temperature(logits, truth, doubt=1.0)
            loss = log_loss(logits, truth, temperature)
            if not loss >= best.loss:
                best = Choice(candidates[name], name, check, temperature, loss)
    return best


def logits_of(backbone: nn.Module, head: nn.Module, images: Pictures, size: int) -> Tensor:
    """N K: what backbone and head say of pictures."""
    return look(backbone, lambda features: read(head, features), images, size)
