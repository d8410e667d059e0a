"""Supervised learning as one more task: the label is given instead of generated.

    loss = - sum_k q_k log softmax(W f(x) + b)[k],   q = (1 - s) one_hot(y) + s / K

Fine-tuning and training from scratch are the one loop with this task; s is label smoothing (Szegedy et al., "Rethinking
the Inception architecture", 2016, https://arxiv.org/abs/1512.00567).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from headway.draws import Draws
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


class SupervisedTask(PretextTask):
    """Name the class.

    Args:
        head: B D -> B K, the output layer; kept afterwards.
        labels: N, int64: the class of each picture of the data set, by its position.
        size: Side of the view in pixels.
        config: The choices.
    """

    def __init__(self, head: nn.Module, labels: Tensor, size: int, config: Supervised):
        super().__init__()
        self.head, self.size, self.config = head, size, config
        self.labels: Tensor
        self.register_buffer("labels", labels, persistent=False)

    def views(self, batch: Batch, draws: Draws) -> LabelledView:
        """An augmented view of each picture, with the label that was given."""
        return LabelledView(self.config.augment(batch.images, draws, self.size), self.labels[batch.index])

    def forward(self, backbone: Backbone, views: LabelledView, clock: Clock) -> Outcome:
        """Cross-entropy with smoothed labels."""
        logits = wide(self.head(backbone(views.images).pooled))  # B K
        accuracy = (logits.argmax(1) == views.labels).float().mean()
        return Outcome(
            F.cross_entropy(logits, views.labels, label_smoothing=self.config.smoothing), {"accuracy": accuracy}
        )
