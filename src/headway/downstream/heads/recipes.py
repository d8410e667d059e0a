"""Hyperparameters of training on labels: of the loss, of fine-tuning, LoRA, heads alone, and from scratch."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from headway.config import NO_DECAY, Optim, Rule
from headway.transforms.augment import Augment

AUGMENT = Augment(
    scale=(0.35, 1.0), brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05, grayscale_prob=0.05, blur_prob=0.0
)  # fmt: skip
"""Augmentation of supervised training: weaker than SimCLR's, since a label may depend on color."""


@dataclass(frozen=True)
class SupervisedConfig:
    """Hyperparameters of the supervised task."""

    label_smoothing: float = 0.1
    """Of the loss, in [0, 1)."""
    augment: Augment = AUGMENT
    """The augmentation of each image in each epoch."""
    balance_classes: bool = False
    """Whether all classes have equal weight, however many images they have."""


ADAMW = Optim(lr=4e-3, weight_decay=0.05, warmup_fraction=0.1, betas=(0.9, 0.999))
"""The optimizer of heads alone, from which those of the other trainings depart."""


@dataclass(frozen=True)
class FineTuneConfig:
    """Hyperparameters of supervised training: of fine-tuning, of training from scratch, and of heads alone."""

    task: SupervisedConfig = field(default_factory=SupervisedConfig)
    """Loss and augmentation."""
    optim: Optim = ADAMW
    """The optimizer."""
    epochs: int = 50
    """Passes over the labeled images, unless these are fewer than ``min_steps`` steps."""
    min_steps: int = 150
    """The least number of steps."""
    batch_size: int = 64
    """Images per step."""
    trainable: Literal["all", "head", "lora"] = "all"
    """What is trained: backbone and head, the head alone, or the head and low-rank updates of the backbone."""
    trainable_blocks: int = 0
    """Only this many of the last blocks are trained; 0: all of them."""
    layer_decay: float = 1.0
    """Factor on the learning rate from a block to the one before it."""
    lora_rank: int = 8
    """Rank of the low-rank updates."""
    lora_alpha: float = 16.0
    """The low-rank updates are scaled by lora_alpha / lora_rank."""
    processes: int = 1
    """Processes on this machine that share each step; 0: measured, where the training is not short."""
    threads: int = 0
    """Torch's threads where there is one process; 0: measured, where the training is not short."""

    def num_steps(self, num_images: int) -> int:
        """Optimizer steps of a training on so many images."""
        return max(math.ceil(self.epochs * num_images / min(self.batch_size, num_images)), self.min_steps, 1)


NO_HEAD_DECAY = (Rule(r"^task\.head", lr_scale=1.0, wd_scale=0.0), *NO_DECAY)
"""The head starts as a linear probe, whose penalty was chosen already: it has no weight decay."""
FROM_SCRATCH = FineTuneConfig(optim=replace(ADAMW, method="muon", lr=2.4e-2))
"""With few labels and few steps, Muon learns far more than AdamW (docs/results.md)."""
FINE_TUNE = FineTuneConfig(optim=replace(ADAMW, lr=2e-3, rules=NO_HEAD_DECAY), layer_decay=0.85)
LORA = FineTuneConfig(
    optim=replace(
        ADAMW, lr=8e-3, weight_decay=0.0, rules=(Rule(r"^task\.head", lr_scale=0.25, wd_scale=0.0), *NO_DECAY)
    ),
    trainable="lora",
)
HEAD_ONLY = FineTuneConfig(trainable="head")
