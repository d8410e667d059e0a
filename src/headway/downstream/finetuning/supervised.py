"""Supervised learning as one more task: the label is given instead of generated.

    one label per image:       loss = - w[y] sum_k q_k log p_k,                                 p = softmax(z)
    several labels per image:  loss = - 1/K sum_k w_k(y) (q_k log p_k + (1 - q_k) log(1 - p_k)),   p = sigmoid(z)

with z = head(features) and q = (1 - s) y + s / K, where y is the label as 0 and 1 (with several labels per image, s / 2
takes the place of s / K). s is label smoothing (Szegedy et al., "Rethinking the Inception architecture", 2016,
https://arxiv.org/abs/1512.00567); the weights w make rare classes count as much as frequent ones. Heads, fine-tuning
and training from scratch all use the one training loop with this task; frozen parameters get no gradient.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from headway.downstream.heads.layers import apply_head
from headway.downstream.heads.recipes import SupervisedConfig
from headway.downstream.targets import SINGLE, Target
from headway.metrics.class_weights import class_weights, sample_weights
from headway.nn.numerics import at_least_fp32
from headway.protocol import Backbone, Batch, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG


class SupervisedViews(NamedTuple):
    """B augmented images and their labels."""

    images: Tensor
    labels: Tensor


class SupervisedTask(PretextTask):
    """Predict the class.

    Args:
        head: B D (or the features that it asks for) -> B K, the output layer; it is kept after training.
        labels: N or N K: the label of each image of the data set, by sample index.
        size: Side of the view in pixels.
        config: The hyperparameters.
        target: What the labels mean.
    """

    def __init__(self, head: nn.Module, labels: Tensor, size: int, config: SupervisedConfig, target: Target = SINGLE):
        super().__init__()
        self.head, self.size, self.config, self.target = head, size, config, target
        self.class_weights: Tensor
        weights = class_weights(labels) if config.balance_classes else None
        self.labels = nn.Buffer(labels, persistent=False)
        self.register_buffer("class_weights", weights, persistent=False)

    def make_views(self, batch: Batch, rng: SampleRNG) -> SupervisedViews:
        """An augmented view of each image, with its label."""
        return SupervisedViews(self.config.augment(batch.images, rng, self.size), self.labels[batch.sample_index])

    def forward(self, backbone: Backbone, views: SupervisedViews, clock: TrainingClock) -> TaskOutput:
        """Cross-entropy with smoothed labels."""
        eval_frozen_modules(backbone)
        trainable = any(parameter.requires_grad for parameter in backbone.parameters())
        with torch.set_grad_enabled(trainable and torch.is_grad_enabled()):
            features = backbone(views.images)
        logits, smoothing = at_least_fp32(apply_head(self.head, features)), self.config.label_smoothing  # B K
        losses = self.target.loss(logits, views.labels, smoothing)  # B, or B K
        correct = self.target.correct(self.target.probabilities(logits), views.labels)  # B
        if self.class_weights is not None:
            losses = losses * sample_weights(views.labels, self.class_weights.to(losses))  # B, or B K
        return TaskOutput(losses.mean(), {"accuracy": correct.float().mean()})


def eval_frozen_modules(network: nn.Module) -> None:
    """Set modules without a trainable parameter to eval mode: their batch norms keep their statistics, no dropout."""
    if any(module.training for module in network.children()) or network.training:
        for module in network.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()
