"""Supervised training by gradient steps: fine-tuning, LoRA, a head alone, and training from scratch."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from headway.downstream.classifier import Classifier
from headway.downstream.finetuning.layer_decay import freeze_all_but_last_blocks, layer_decay_rules
from headway.downstream.finetuning.supervised import SupervisedTask
from headway.downstream.finetuning.supervised_workers import forget_measurements, with_workers
from headway.downstream.heads.recipes import FINE_TUNE, FineTuneConfig
from headway.downstream.labeled_images import LabeledImages
from headway.nn.lora import add_lora, merge_lora
from headway.protocol import Backbone, TrainModule
from headway.rng import seeded
from headway.train.config import Plan
from headway.train.log.events import Sink
from headway.train.loop.context import Observers
from headway.train.loop.loop import fit

TrainCallback = Callable[[Backbone, nn.Module], None]
"""A function of the backbone and the head, called during training."""


def train_supervised(
    backbone: Backbone,
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
    task = SupervisedTask(copy.deepcopy(head).requires_grad_(True), data.labels, data.size, config.task, data.target)
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

    def probe(network: Backbone) -> float:
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
    return Classifier(merge_lora(network), task.head, data.class_names, data.size, "finetune", target=data.target)
