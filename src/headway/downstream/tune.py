"""Training on labels by steps: how, and the one way to do it for fine-tuning, LoRA, heads alone and from scratch."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from headway.config import NO_DECAY, Optim, Rule
from headway.data.picked import Pictures
from headway.downstream.classifier import Classifier
from headway.downstream.layers import hold_first, layer_rules
from headway.downstream.supervised import Supervised, SupervisedTask
from headway.draws import seeded
from headway.measure.linear import fit_probe
from headway.nn.lora import adapt, merge
from headway.protocol import Learner
from headway.train.log import Sink
from headway.train.loop import fit
from headway.train.plan import Plan

Watch = Callable[[nn.Module, nn.Module], None]
"""Looks at backbone and head while they are trained."""


@dataclass(frozen=True)
class FineTune:
    """Choices of training on labels, for fine-tuning, from scratch, and of heads alone."""

    task: Supervised = field(default_factory=Supervised)
    """Loss and augmentation."""
    optim: Optim = field(default_factory=lambda: Optim(lr=4e-3, weight_decay=0.05, warmup=0.1, betas=(0.9, 0.999)))
    """How weights are moved."""
    epochs: int = 50
    """Passes over the labelled pictures, if they make ``least`` steps."""
    least: int = 150
    """Steps at least."""
    batch: int = 64
    """Pictures a step."""
    moves: Literal["all", "head", "lora"] = "all"
    """What is trained: backbone and head, the head alone, or the head and low-rank changes of the backbone."""
    blocks: int = 0
    """Only so many of the last blocks move; 0: all."""
    layer_decay: float = 1.0
    """Factor on the learning rate from a block to the one before it."""
    rank: int = 8
    """Of low-rank changes."""
    alpha: float = 16.0
    """Low-rank changes count alpha / rank."""

    def steps(self, count: int) -> int:
        """Optimiser steps on so many pictures."""
        return max(math.ceil(self.epochs * count / min(self.batch, count)), self.least, 1)


HEAD_STILL = (Rule(r"^task\.head", rate=1.0, decay=0.0), *NO_DECAY)
"""The head starts as a linear probe, whose penalty was chosen already: it isn't decayed."""
FROM_SCRATCH = FineTune(optim=Optim(method="muon", lr=2.4e-2, weight_decay=0.05, warmup=0.1, betas=(0.9, 0.999)))
"""With few labels and steps it learns far more by Muon than by AdamW (docs/results.md)."""
FINE_TUNE = FineTune(
    optim=Optim(lr=2e-3, weight_decay=0.05, warmup=0.1, betas=(0.9, 0.999), rules=HEAD_STILL), layer_decay=0.85
)
LORA = FineTune(
    optim=Optim(
        lr=8e-3, weight_decay=0.0, warmup=0.1, betas=(0.9, 0.999),
        rules=(Rule(r"^task\.head", rate=0.25, decay=0.0), *NO_DECAY),
    ),
    moves="lora",
)  # fmt: skip
ALONE = FineTune(moves="head")
RECIPES: dict[str, FineTune] = {"attentive": ALONE, "mlp": ALONE, "finetune": FINE_TUNE, "lora": LORA}
"""How each head that is trained by steps is trained."""


def supervise(
    backbone: nn.Module,
    head: nn.Module,
    images: Pictures,
    labels: Tensor,
    classes: tuple[str, ...],
    size: int,
    *,
    seed: int = 0,
    choices: FineTune = FINE_TUNE,
    sinks: Sequence[Sink] = (),
    stop: int | None = None,
    watch: Watch | None = None,
    watch_every: int = 0,
    kind: str = "finetune",
) -> Classifier:
    """Train copies of backbone and head on labels, through the one loop.

    Args:
        backbone: Where to start.
        head: The same.
        images: N C H W.
        labels: N, int64; or N K of 0 and 1.
        classes: K names.
        size: Side of the view.
        seed: Of order, augmentation and fresh weights.
        choices: How.
        sinks: Take the events.
        stop: Leave after so many steps of the plan; none: all.
        watch: Looks at backbone and head now and then, and at the end.
        watch_every: How many steps lie between.
        kind: What the classifier shall say of itself.
    """
    task = SupervisedTask(copy.deepcopy(head).requires_grad_(True), labels, size, choices.task)
    network, optim = copy.deepcopy(backbone).requires_grad_(True), choices.optim
    if choices.moves == "lora":
        with seeded(seed):
            adapt(network, choices.rank, choices.alpha)
    elif choices.moves == "head":
        network.requires_grad_(False)
    else:
        hold_first(network, choices.blocks)
        if choices.layer_decay != 1:
            optim = replace(optim, rules=(*layer_rules(network, choices.layer_decay), *optim.rules))
    learner = Learner(network, task)

    def probe(network: nn.Module) -> float:
        assert watch is not None
        watch(network, task.head)
        return 0.0

    plan = Plan(
        steps=choices.steps(len(images)), batch=min(choices.batch, len(images)), seed=seed, log_every=25,
        probe_every=watch_every,
    )  # fmt: skip
    stored: Any = images  # a loader takes rows of it, and asks for no more
    fit(learner, stored, plan, optim, sinks=sinks, stop_after=stop, probe=probe if watch else None)
    learner.eval().cpu()
    return Classifier(merge(network), task.head, classes, size, kind, several=labels.dim() == 2)


def calibrated_head(
    features: Tensor, labels: Tensor, classes: int, seed: int, balance: bool = False, groups: Tensor | None = None
) -> tuple[nn.Linear, float]:
    """The linear probe of N D features as an output layer, D -> K, and the temperature that folds of them ask for."""
    found = fit_probe(features, labels, classes, seed=seed, balance=balance, groups=groups)
    head = new_head(features.shape[1], classes, seed)
    head.load_state_dict({"weight": found.probe.weight.float(), "bias": found.probe.bias.float()})
    return head, found.temperature


def linear_head(features: Tensor, labels: Tensor, classes: int, seed: int, groups: Tensor | None = None) -> nn.Linear:
    """The linear probe of N D features as an output layer: D -> K."""
    return calibrated_head(features, labels, classes, seed, groups=groups)[0]


def scaled_head(
    features: Tensor, labels: Tensor, classes: int, seed: int, balance: bool = False, groups: Tensor | None = None
) -> nn.Linear:
    """The linear probe with logits at their own best temperature: where a training that moves the backbone starts.

    Each draw and fold has a penalty, and so a scale of logits, of its own; this brings all to one.
    """
    head, temperature = calibrated_head(features, labels, classes, seed, balance, groups)
    with torch.no_grad():
        for part in head.parameters():
            part.div_(temperature)
    return head


def new_head(width: int, classes: int, seed: int) -> nn.Linear:
    """A fresh linear output layer, initialised by its own seed."""
    with seeded(seed):
        return nn.Linear(width, classes)
