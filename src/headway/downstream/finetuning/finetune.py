"""Supervised training by gradient steps: fine-tuning, LoRA, a head alone, and training from scratch."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from headway.config import NO_DECAY, Optim, Rule
from headway.downstream.classifier import Classifier
from headway.downstream.finetuning.layer_decay import freeze_all_but_last_blocks, layer_decay_rules
from headway.downstream.finetuning.supervised import SupervisedConfig, SupervisedTask
from headway.downstream.finetuning.supervised_workers import forget_measurements, with_workers
from headway.downstream.labeled_images import LabeledImages
from headway.metrics.linear_probe import fit_probe
from headway.nn.lora import add_lora, merge_lora
from headway.protocol import TrainModule
from headway.rng import seeded
from headway.train.config import Plan
from headway.train.log.events import Sink
from headway.train.loop.context import Observers
from headway.train.loop.loop import fit

TrainCallback = Callable[[nn.Module, nn.Module], None]
"""A function of the backbone and the head, called during training."""


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
HEAD_CONFIGS = {"attentive": HEAD_ONLY, "mlp": HEAD_ONLY, "finetune": FINE_TUNE, "lora": LORA}
"""The default configuration of each head that is trained by steps."""


def train_supervised(
    backbone: nn.Module,
    head: nn.Module,
    data: LabeledImages,
    *,
    seed: int = 0,
    config: FineTuneConfig = FINE_TUNE,
    sinks: Sequence[Sink] = (),
    stop_after: int | None = None,
    callback: TrainCallback | None = None,
    callback_every: int = 0,
) -> Classifier:
    """Train copies of a backbone and a head on labels, in the same loop as pretraining.

    Args:
        backbone: Initial weights of the backbone.
        head: Initial weights of the head.
        data: The labeled images.
        seed: Of the order, the augmentation and new weights.
        config: The hyperparameters.
        sinks: They receive the log events.
        stop_after: Stop after so many steps of the schedule; None: after all of them.
        callback: Called with backbone and head during training, and at the end.
        callback_every: Steps between two calls.

    Returns:
        A classifier of kind finetune, on the CPU and with temperature 1.
    """
    task = SupervisedTask(copy.deepcopy(head).requires_grad_(True), data.labels, data.size, config.task)
    network, optim = copy.deepcopy(backbone).requires_grad_(True), config.optim
    if config.trainable == "lora":
        with seeded(seed):
            add_lora(network, config.lora_rank, config.lora_alpha)
    elif config.trainable == "head":
        network.requires_grad_(False)
    else:
        freeze_all_but_last_blocks(network, config.trainable_blocks)
        if config.layer_decay != 1:
            optim = replace(optim, rules=(*layer_decay_rules(network, config.layer_decay), *optim.rules))
    module = TrainModule(network, task)

    def probe(network: nn.Module) -> float:
        assert callback is not None
        callback(network, task.head)
        return 0.0

    count = len(data.images)
    plan = Plan(
        steps=config.num_steps(count), batch_size=min(config.batch_size, count), seed=seed, log_every=25,
        probe_every=callback_every,
    )  # fmt: skip
    images: Any = data.images  # the loader only takes rows of it, as of a tensor
    plan = with_workers(plan, module, images, optim, config.processes, config.threads)
    observers = Observers(sinks, probe if callback else None)
    if fit(module, images, plan, optim, observers=observers, stop_after=stop_after).changes:
        forget_measurements()
    module.eval().cpu()
    return Classifier(
        merge_lora(network), task.head, data.class_names, data.size, "finetune", multilabel=data.multilabel
    )


def calibrated_linear_head(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    seed: int,
    balance_classes: bool = False,
    groups: Tensor | None = None,
) -> tuple[nn.Linear, float]:
    """A linear probe of N D features as an output layer, D -> K, and its temperature by cross-validation."""
    fitted = fit_probe(features, labels, num_classes, seed=seed, balance_classes=balance_classes, groups=groups)
    with seeded(seed):
        head = nn.Linear(features.shape[1], num_classes)
    head.load_state_dict({"weight": fitted.probe.weight.float(), "bias": fitted.probe.bias.float()})
    return head, fitted.temperature


def temperature_scaled_head(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    seed: int,
    balance_classes: bool = False,
    groups: Tensor | None = None,
) -> nn.Linear:
    """A linear probe whose logits are divided by their temperature: the initial head of fine-tuning.

    The probes of different label draws and folds have different penalties, and so logits of different scale. The
    division brings all of them to one scale.
    """
    head, temperature = calibrated_linear_head(features, labels, num_classes, seed, balance_classes, groups)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.div_(temperature)
    return head
