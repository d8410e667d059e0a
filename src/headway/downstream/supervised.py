"""Supervised learning as one more task: the label is given instead of generated.

    one label:       loss = - w[y] sum_k q_k log p_k,                                 p = softmax(z)
    several labels:  loss = - 1/K sum_k w_k(y) (q_k log p_k + (1 - q_k) log(1 - p_k)),   p = sigmoid(z)

with z = head(features) and q = (1 - s) y + s / K, y being the label as 0 and 1 (s / 2 in place of s / K with several
labels). Every head that is trained by steps, fine-tuning and training from scratch are the one loop with this task;
what stands still has no gradient. s is label smoothing (Szegedy et al., "Rethinking the Inception architecture", 2016,
https://arxiv.org/abs/1512.00567); w makes rare classes count as much as frequent ones.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.downstream.heads import read
from headway.draws import Draws
from headway.measure.balance import class_weights, weight_of_each
from headway.nn.numerics import wide
from headway.protocol import Backbone, Batch, Clock, Outcome, PretextTask
from headway.views.augment import Augment


class LabelledView(NamedTuple):
    """The deal: B augmented pictures and their labels."""

    images: Tensor
    labels: Tensor


AUGMENT = Augment(
    scale=(0.35, 1.0), brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05, grey=0.05, blur=0.0
)  # fmt: skip
"""Views for supervised training: milder than SimCLR's, since a label need not survive every change of colour."""


@dataclass(frozen=True)
class Supervised:
    """Choices of supervised training."""

    smoothing: float = 0.1
    """s above."""
    augment: Augment = AUGMENT
    """How a picture is varied each time it is seen."""
    balance: bool = False
    """Whether classes count alike, however many pictures they have."""


class SupervisedTask(PretextTask):
    """Name the class.

    Args:
        head: B D (or what it reads) -> B K, the output layer; kept afterwards.
        labels: N, int64: the class of each picture of the data set, by its position; or N K of 0 and 1.
        size: Side of the view in pixels.
        config: The choices.
    """

    def __init__(self, head: nn.Module, labels: Tensor, size: int, config: Supervised):
        super().__init__()
        self.head, self.size, self.config = head, size, config
        self.labels: Tensor
        self.weights: Tensor
        self.register_buffer("labels", labels, persistent=False)
        self.register_buffer("weights", class_weights(labels) if config.balance else None, persistent=False)

    def views(self, batch: Batch, draws: Draws) -> LabelledView:
        """An augmented view of each picture, with the label that was given."""
        return LabelledView(self.config.augment(batch.images, draws, self.size), self.labels[batch.index])

    def forward(self, backbone: Backbone, views: LabelledView, clock: Clock) -> Outcome:
        """Cross-entropy with smoothed labels."""
        assert isinstance(backbone, nn.Module)
        rest(backbone)
        moving = any(parameter.requires_grad for parameter in backbone.parameters())
        with torch.set_grad_enabled(moving and torch.is_grad_enabled()):
            features = backbone(views.images)
        logits = wide(read(self.head, features))  # B K
        if views.labels.dim() == 1:
            losses = F.cross_entropy(logits, views.labels, label_smoothing=self.config.smoothing, reduction="none")  # B
            right = logits.argmax(1) == views.labels  # B
        else:
            has = views.labels.to(logits)  # B K
            soft = has + self.config.smoothing * (0.5 - has)  # B K
            losses = F.binary_cross_entropy_with_logits(logits, soft, reduction="none")  # B K
            right = (logits > 0) == (has > 0)  # B K
        if self.weights is not None:
            losses = losses * weight_of_each(views.labels, self.weights.to(losses))  # B, or B K
        return Outcome(losses.mean(), {"accuracy": right.float().mean()})


def rest(network: nn.Module) -> None:
    """What stands still is in evaluation: no batch norm forgets, and nothing is dropped, where no weight moves."""
    if any(part.training for part in network.children()) or network.training:
        for part in network.modules():
            weights = list(part.parameters())
            if weights and not any(weight.requires_grad for weight in weights):
                part.eval()
