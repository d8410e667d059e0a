"""The base class of pretext tasks, and the module that the engine trains."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from headway.protocol.backbone import Backbone
from headway.protocol.types import Batch, Panel, TaskOutput, TrainingClock
from headway.rng import SampleRNG


class PretextTask(nn.Module, ABC):
    """A pretext task on unlabeled images: it makes views and targets, and computes the loss of the network on them.

    Tasks derive from this class and from no other task. A task *receives* the backbone and never owns it, so transfer
    means to drop ``task.*`` and attach a head.

    Attributes:
        requires: What the backbone must support; checked against ``backbone.supports`` before the run starts.
        batch_coupled: True if the loss of one image depends on the others (SimCLR, VICReg, any batch norm). The engine
            then refuses to split the batch.
        min_batch_size: The smallest global batch for which the loss is meaningful; smaller ones are refused.
        cost_milestones: Shares of the run, in [0, 1) and rising from 0, at which the duration of a step changes (for
            budgets).
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    batch_coupled: ClassVar[bool] = False
    min_batch_size: ClassVar[int] = 1
    cost_milestones: tuple[float, ...] = (0.0,)

    @abstractmethod
    def make_views(self, batch: Batch, rng: SampleRNG) -> Any:
        """Make views and targets, with random numbers per image. Runs without gradients.

        Random numbers for ``forward`` are drawn here too, so that ``forward`` is a function of its arguments.
        """

    @abstractmethod
    def forward(self, backbone: Backbone, views: Any, clock: TrainingClock) -> TaskOutput:
        """Compute the loss. It changes no buffers but those of batch norms. Losses are float32 or wider."""

    def after_step(self, backbone: Backbone, step_stats: Sequence[Any], clock: TrainingClock) -> None:
        """Update teachers, centers and queues; called once after every optimizer step.

        Args:
            backbone: The backbone after the step.
            step_stats: ``TaskOutput.step_stats`` of every micro-batch of the step on this process, in order.
            clock: The clock after the step.
        """

    def visualize(self, batch: Batch, views: Any, backbone: Backbone | None = None) -> list[Panel]:
        """Show views and targets, and the network's predictions. Runs without gradients.

        Tasks override this. The default shows every view that is an image.

        Args:
            batch: The images.
            views: What ``make_views`` made of them.
            backbone: The trained network. If given, panels show its predictions beside the targets.
        """
        b = len(batch.images)
        image_leaves = [leaf for leaf in tree_leaves(views) if isinstance(leaf, Tensor) and leaf.ndim == 4]
        split_views = [view for leaf in image_leaves for view in leaf.split(b)]  # B C H W each
        return [Panel(f"view {i}", images.float()) for i, images in enumerate(split_views, 1)]


class TrainModule(nn.Module):
    """Backbone and task in the one module that the engine wraps. Its state dict is ``backbone.* | task.*``."""

    backbone: Backbone
    task: PretextTask

    def __init__(self, backbone: Backbone, task: PretextTask):
        super().__init__()
        self.backbone, self.task = backbone, task

    def forward(self, batch: Batch, rng: SampleRNG, clock: TrainingClock) -> TaskOutput:
        """Make the views of one (micro-)batch and compute the loss."""
        with torch.no_grad(), torch.autocast(batch.images.device.type, enabled=False):
            views = self.task.make_views(batch, rng)
        with rng.fold_in("network").use_for_dropout():
            return self.task(self.backbone, views, clock)
