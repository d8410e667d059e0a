"""The methods that an evaluation judges: a backbone, and the kind of output layer that labels train on it."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from headway.backbones.build import from_config, to_config
from headway.data.sampling.split import sample_per_class
from headway.downstream.finetuning.model_selection import selection_folds
from headway.downstream.heads.recipes import FROM_SCRATCH, FineTuneConfig
from headway.downstream.heads.registry import HEADS, HeadKind, find_head
from headway.downstream.labeled_split import LabeledSplit
from headway.downstream.transfer import DEFAULT_FOLDS
from headway.protocol import Backbone, Features, InputSpec
from headway.rng import seeded
from headway.transforms.geometry import center_crop_resize
from headway.utils.hashing import stable_hash

LabelsPerClass = int | None
"""Labels of each class; None: all there are."""
BackboneFn = Callable[[int, int], Backbone]
"""From the offset of a pretraining's seed, and the seed of the training on labels, to the initial backbone."""

RAW_PIXELS, UNTRAINED, SCRATCH, PRETRAINED = "raw pixels", "untrained", "from scratch", "pretrained"
RAW_PIXELS_SIDE = 32
"""Side in pixels to which images are resized where their raw pixels are the features."""
SCRATCH_STEPS_RATIO = 2
"""Training from scratch takes this many times the steps of fine-tuning, since it starts farther from a solution."""
SCRATCH_HEAD = HeadKind(
    "linear",
    SCRATCH,
    nn.Linear,
    recipe=replace(
        FROM_SCRATCH,
        epochs=SCRATCH_STEPS_RATIO * FROM_SCRATCH.epochs,
        min_steps=SCRATCH_STEPS_RATIO * FROM_SCRATCH.min_steps,
    ),
)
"""A linear layer with random weights, which is trained together with a backbone of random weights."""


class Method(NamedTuple):
    """One row of a table.

    Attributes:
        name: Its name.
        backbone: Makes its initial backbone.
        head: The output layer, and how it is trained.
        selection_group: Folds select one method of each group; empty: it is only there to compare with.
    """

    name: str
    backbone: BackboneFn
    head: HeadKind
    selection_group: str = ""


class RawPixels(Backbone):
    """A backbone without weights, whose features are the pixels of the image at ``RAW_PIXELS_SIDE``.

    Args:
        channels: C of the images.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.embed_dim = channels * RAW_PIXELS_SIDE**2
        self.patch_size = self.image_size = RAW_PIXELS_SIDE
        self.input_spec = InputSpec((0.0,) * channels, (1.0,) * channels, channels)

    def forward(self, images: Tensor) -> Features:  # type: ignore[override]  # it supports no option
        """B C S S -> features of C*32*32 numbers."""
        pooled = center_crop_resize(images, RAW_PIXELS_SIDE).flatten(1)  # B D
        return Features(pooled, pooled[:, None], pooled[:, :0, None], (1, 1))


def baseline_methods(channels: int, untrained: BackboneFn, scratch_head: HeadKind = SCRATCH_HEAD) -> list[Method]:
    """The rows that every pretraining is compared with: raw pixels, the untrained network, and training from scratch.

    Args:
        channels: C of the images.
        untrained: Makes the network with random weights.
        scratch_head: How training from scratch is done.
    """
    pixels = RawPixels(channels)
    return [
        Method(RAW_PIXELS, lambda seed_offset, seed: pixels, HEADS["linear"]),
        Method(UNTRAINED, untrained, HEADS["linear"]),
        scratch_method(untrained, scratch_head),
    ]


def scratch_method(untrained: BackboneFn, head: HeadKind = SCRATCH_HEAD) -> Method:
    """Training from scratch; every training has new random weights."""
    return Method(SCRATCH, lambda seed_offset, seed: reinitialize(untrained(seed_offset, seed), seed), head)


def fixed(backbone: Backbone) -> BackboneFn:
    """The same backbone for every seed."""
    return lambda seed_offset, seed: backbone


def reinitialize(backbone: Backbone, seed: int) -> Backbone:
    """The same architecture with new random weights."""
    with seeded(seed):
        return from_config(to_config(backbone))


def with_steps(head: HeadKind, steps: int) -> HeadKind:
    """The same kind of head, whose training takes exactly so many steps; 0: as many as before."""
    if not head.recipe or not steps:
        return head
    return replace(head, recipe=replace(head.recipe, epochs=0, min_steps=steps))


def method_head(name: str, finetune_steps: int = 0) -> HeadKind:
    """A head by its name on the command line, with the number of steps that the user gave (0: the recipe's)."""
    return with_steps(find_head(name), finetune_steps)


def scale_lr(config: FineTuneConfig, factor: float) -> FineTuneConfig:
    """The same configuration with ``factor`` times the learning rate."""
    return replace(config, optim=replace(config.optim, lr=config.optim.lr * factor))


def draw_labels(labels: Tensor, labels_per_class: LabelsPerClass, seed: int, draw: int) -> Tensor:
    """Indices of ``labels_per_class`` images of each class (None: all), alike for every method of a seed and draw."""
    if labels_per_class is None:
        return torch.arange(len(labels))
    return sample_per_class(labels, labels_per_class, seed=stable_hash("labels", seed, draw))


def can_hold_out(split: LabeledSplit, indices: Tensor) -> bool:
    """Whether some class has a second image among ``indices``, of another group, that a fold can hold out."""
    groups = None if split.groups is None else split.groups[indices]
    return bool(selection_folds(split.labels[indices], DEFAULT_FOLDS, 0, groups))
