"""From a backbone and a few labelled pictures to a classifier, in three ways."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from torch import Tensor, nn

from headway.config import NO_DECAY, Optim, Rule
from headway.downstream.classifier import Classifier, NearestNeighbours
from headway.downstream.features import extract
from headway.downstream.supervised import Supervised, SupervisedTask
from headway.draws import seeded
from headway.errors import unknown
from headway.measure.linear import linear_probe
from headway.protocol import Learner
from headway.train.log import Sink
from headway.train.loop import fit
from headway.train.plan import Plan

Head = Literal["knn", "linear", "finetune"]


@dataclass(frozen=True)
class FineTune:
    """Choices of training on labels, for fine-tuning and from scratch."""

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


FROM_SCRATCH = FineTune()
FINE_TUNE = FineTune(
    optim=Optim(
        lr=2e-3, weight_decay=0.05, warmup=0.1, betas=(0.9, 0.999),
        rules=(Rule(r"^task\.head", rate=1.0, decay=0.0), *NO_DECAY),
    )
)  # fmt: skip


def transfer(
    backbone: nn.Module,
    images: Tensor,
    labels: Tensor,
    classes: tuple[str, ...],
    size: int,
    *,
    head: Head,
    seed: int = 0,
    fine_tune: FineTune = FINE_TUNE,
    sinks: Sequence[Sink] = (),
) -> Classifier:
    """Change the output layer: join a head for K classes and train it. The backbone given is left as it was.

    Fine-tuning starts from the linear probe, which keeps the first steps from spoiling the features (Kumar et al.,
    "Fine-tuning can distort pretrained features", 2022, https://arxiv.org/abs/2202.10054).

    Args:
        backbone: The network that is kept.
        images: N C H W, labelled pictures as stored.
        labels: N, int64 in 0..K-1.
        classes: K names.
        size: Side of the view in pixels.
        head: knn, linear (backbone frozen) or finetune (everything moves).
        seed: Of folds, order and augmentation.
        fine_tune: Choices of finetune.
        sinks: Take the events of fine-tuning.

    Raises:
        HeadwayError: A head that there isn't.
    """
    if head not in get_args(Head):
        raise unknown("head", head, get_args(Head))
    features = extract(backbone, images, size)  # N D
    if head == "knn":
        return Classifier(backbone, NearestNeighbours(features, labels, len(classes)), classes, size, head)
    linear = linear_head(features, labels, len(classes), seed)
    if head == "linear":
        return Classifier(backbone, linear, classes, size, head)
    return supervise(backbone, linear, images, labels, classes, size, seed=seed, choices=fine_tune, sinks=sinks)


def supervise(
    backbone: nn.Module,
    head: nn.Module,
    images: Tensor,
    labels: Tensor,
    classes: tuple[str, ...],
    size: int,
    *,
    seed: int = 0,
    choices: FineTune = FINE_TUNE,
    sinks: Sequence[Sink] = (),
) -> Classifier:
    """Train copies of backbone and head on labels, through the one loop."""
    batch = min(choices.batch, len(images))
    steps = max(math.ceil(choices.epochs * len(images) / batch), choices.least)
    task = SupervisedTask(copy.deepcopy(head), labels, size, choices.task)
    learner = Learner(copy.deepcopy(backbone), task)
    fit(learner, images, Plan(steps=steps, batch=batch, seed=seed, log_every=25), choices.optim, sinks=sinks)
    learner.eval().cpu()
    return Classifier(learner.backbone, task.head, classes, size, "finetune")


def linear_head(features: Tensor, labels: Tensor, classes: int, seed: int) -> nn.Linear:
    """The linear probe of N D features as an output layer: D -> K."""
    probe, _ = linear_probe(features, labels, classes, seed=seed)
    head = new_head(features.shape[1], classes, seed)
    head.load_state_dict({"weight": probe.weight.float(), "bias": probe.bias.float()})
    return head


def new_head(width: int, classes: int, seed: int) -> nn.Linear:
    """A fresh linear output layer, initialised by its own seed."""
    with seeded(seed):
        return nn.Linear(width, classes)
