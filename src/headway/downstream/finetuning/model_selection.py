"""Model selection by cross-validation: the strength of regularization, the step to stop at, and the temperature.

Each fold trains every candidate and evaluates it on its held-out images: before training (where training starts from a
linear probe), after each quarter of the steps, and at the end. The candidate and step with the lowest log loss over all
folds, each at its own best temperature, are selected together with that temperature. No other image is used.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from headway.backbones.extract import forward_batched
from headway.data.dataset.subset import Images, subset
from headway.data.sampling.split import folds_until, strata
from headway.downstream.finetuning.finetune import train_supervised
from headway.downstream.heads.frozen import MIN_HELD_OUT_IMAGES, LabeledFeatures
from headway.downstream.heads.layers import apply_head
from headway.downstream.heads.recipes import FineTuneConfig
from headway.downstream.heads.registry import HeadKind
from headway.downstream.labeled_images import LabeledImages
from headway.downstream.targets import Target
from headway.metrics.calibration import fit_temperature, log_loss
from headway.protocol import Backbone
from headway.transforms.augment import Augment
from headway.utils.progress import Progress

NUM_STOP_CANDIDATES = 4
"""Training may stop at this many steps, evenly spaced, the last step included."""
REGULARIZATION_MAX_LABELS = 1000
"""Up to this many labels, the strength of regularization is selected too; with more, the given one is used."""
WEAK_AUGMENT = Augment(scale=(0.6, 1.0), jitter_prob=0.0, grayscale_prob=0.0, blur_prob=0.0)
"""Crops that keep most of the image, and horizontal flips."""
HeldOutLogits = dict[tuple[str, int], list[Tensor]]
"""By candidate and stop index: the logits of each fold's held-out images, N K."""


class Selection(NamedTuple):
    """What cross-validation selected.

    Attributes:
        config: The hyperparameters of the selected candidate.
        candidate: Its name.
        stop_index: Stop after this many of NUM_STOP_CANDIDATES parts of the training; 0: do not train at all.
        temperature: The logits are to be divided by it.
        loss: Log loss on held-out images; NaN where no fold could be made.
        accuracy: Share of held-out images that are classified correctly, in [0, 1]; NaN where no fold could be made.
    """

    config: FineTuneConfig
    candidate: str
    stop_index: int
    temperature: float
    loss: float
    accuracy: float

    def stop_step(self, num_images: int) -> int:
        """The step to stop at, in a training on so many images."""
        steps = self.config.num_steps(num_images)
        return min(self.stop_index * stop_interval(steps), steps)

    def __str__(self) -> str:
        """The selection in one line."""
        if math.isnan(self.loss):
            return "no class has a second label to hold out: the default configuration is used, without calibration"
        when = (
            f"stop after {self.stop_index}/{NUM_STOP_CANDIDATES} of the steps" if self.stop_index
            else "keep the linear probe, since further training made it worse"
        )  # fmt: skip
        return f"selected on folds: {self.candidate} regularization, {when}, temperature {self.temperature:.2f}"


def stop_interval(steps: int) -> int:
    """Steps between two steps at which training may stop."""
    return math.ceil(steps / NUM_STOP_CANDIDATES)


def select_config(
    backbone: Backbone,
    make_head: Callable[[Tensor], nn.Module],
    data: LabeledImages,
    *,
    base_config: FineTuneConfig,
    folds: int,
    seed: int,
    from_probe: bool,
    progress: Progress | None = None,
) -> Selection:
    """Select how to train by cross-validation.

    Args:
        backbone: Initial weights of the backbone.
        make_head: From indices of images to the initial head of a training on them.
        data: The labeled images.
        base_config: The hyperparameters of the first candidate, from which the others differ.
        folds: How many folds.
        seed: Of the folds and the trainings.
        from_probe: Whether ``make_head`` returns trained heads, so that no further training is a candidate as well.
        progress: Called with the number of finished trainings and the number of all of them.
    """
    parts = selection_folds(data.labels, folds, seed, data.groups)
    candidates = {"strong": base_config}
    if len(data.labels) <= REGULARIZATION_MAX_LABELS:
        weak = replace(base_config.task, augment=WEAK_AUGMENT, label_smoothing=0.0)
        candidates["weak"] = replace(base_config, task=weak)
    held_out_logits: HeldOutLogits = {}
    done = 0
    for train, test in parts:
        head, train_data, test_images = make_head(train), data.subset(train), subset(data.view_images, test)
        initial = [predict_logits(backbone, head, test_images, data.size)] if from_probe else []
        for name, config in candidates.items():
            logits_by_stop = initial.copy()

            def evaluate(
                network: Backbone, head: nn.Module, found: list = logits_by_stop, images: Images = test_images
            ) -> None:
                found.append(predict_logits(network, head, images, data.size))

            interval = stop_interval(config.num_steps(len(train)))
            train_supervised(
                backbone, head, train_data, seed=seed, config=config, callback=evaluate, callback_every=interval
            )
            for stop_index, logits in enumerate(logits_by_stop, 0 if from_probe else 1):
                held_out_logits.setdefault((name, stop_index), []).append(logits)
            done += 1
            if progress:
                progress(done, len(parts) * len(candidates))
    return _lowest_loss(candidates, held_out_logits, [data.labels[test] for _, test in parts], data.target)


def _lowest_loss(
    candidates: dict[str, FineTuneConfig],
    held_out_logits: HeldOutLogits,
    held_out_labels: list[Tensor],
    target: Target,
) -> Selection:
    """The candidate and stop index with the lowest log loss over all folds."""
    name, config = next(iter(candidates.items()))
    best = Selection(config, name, NUM_STOP_CANDIDATES, 1.0, math.nan, math.nan)
    for (name, stop_index), logits_by_fold in held_out_logits.items():
        if len(logits_by_fold) == len(held_out_labels):  # a fold of a few more steps may have one evaluation more
            logits, labels = torch.cat(logits_by_fold), torch.cat(held_out_labels)
            temperature = fit_temperature(logits, labels, pseudo_count=1.0)
            loss = log_loss(logits, labels, temperature)
            if not loss >= best.loss:
                correct = target.correct(target.probabilities(logits), labels)  # N
                accuracy = float(correct.double().mean())
                best = Selection(candidates[name], name, stop_index, temperature, loss, accuracy)
    return best


def held_out_accuracy(head: HeadKind, data: LabeledFeatures, folds: int, seed: int) -> float:
    """The accuracy in [0, 1] of a fitted head on held-out images, on the folds of ``select_config``.

    Returns:
        NaN where no fold can be made.
    """
    assert head.fit is not None
    correct = []
    for train, test in selection_folds(data.labels, folds, seed, data.groups):
        layer, _ = head.fit(data.subset(train), seed, False, 0)
        with torch.no_grad():
            probs = data.target.probabilities(layer(data.features[test]))  # n K
            correct.append(data.target.correct(probs, data.labels[test]))
    return float(torch.cat(correct).double().mean()) if correct else math.nan


def selection_folds(labels: Tensor, folds: int, seed: int, groups: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    """The (training, held-out) indices of each fold; none where no class has a second image of another group."""
    return folds_until(strata(labels), folds, MIN_HELD_OUT_IMAGES, seed, groups)


def num_trainings(num_labels: int, folds: int) -> int:
    """Trainings on folds that select how to train with so many labels."""
    return folds * (2 if num_labels <= REGULARIZATION_MAX_LABELS else 1)


def predict_logits(backbone: Backbone, head: nn.Module, images: Images, size: int) -> Tensor:
    """N K: the logits of a backbone with a head."""
    return forward_batched(backbone, lambda features: apply_head(head, features), images, size)
