"""The types that the parts of the package exchange, and the interfaces of backbones and pretext tasks.

Letters in shapes: B batch, V views, C H W channels/height/width, N patches, T tokens, P prefix tokens, D embed_dim.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from headway.rng import SampleRNG


class Batch(NamedTuple):
    """A batch of images from the loader.

    Attributes:
        images: B C H W, uint8 in 0..255 (or float32 in [0, 1] for images of more than 8 bits).
        sample_index: B, int64: the index of each image in the data set.
    """

    images: Tensor
    sample_index: Tensor


class TrainingClock(NamedTuple):
    """The progress of the run. Every schedule is a pure function of it.

    Attributes:
        step: Optimizer steps already taken, 0 <= step <= total_steps.
        total_steps: Optimizer steps of the whole run.
        epoch: Passes over the data so far, fractions included.
    """

    step: int
    total_steps: int
    epoch: float

    @property
    def progress(self) -> float:
        """The completed share of the run, in [0, 1]."""
        return self.step / max(self.total_steps, 1)


class Features(NamedTuple):
    """A backbone's output for B images.

    A NamedTuple is a pytree, so autocast, DDP, compile and export handle it.

    Attributes:
        pooled: B D, one vector per image.
        patches: B N D, one token per patch (for a convolutional network its last feature map, flattened). With
            ``keep_indices`` N is the number of patches kept.
        prefix: B P D, class token and registers; P may be 0.
        grid: Rows and columns of patches of the whole image; rows x columns = N unless patches were dropped.
        layers: B P+N D for each of ``return_layers``, in that order.
    """

    pooled: Tensor
    patches: Tensor
    prefix: Tensor
    grid: tuple[int, int]
    layers: tuple[Tensor, ...] = ()


class TaskOutput(NamedTuple):
    """A task's result for one batch.

    Attributes:
        loss: A scalar: the mean over this process's images. The engine weights it by their share of the batch.
        metrics: Detached scalars by name. The log averages them over processes.
        step_stats: What ``after_step`` needs of this batch (features for a queue, sums for a center); detached.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    step_stats: Any = None


class Panel(NamedTuple):
    """One column of a task's visualization: an image for each sample, and a caption below each.

    Attributes:
        title: What the column shows ("input", "prediction", "target").
        images: B C H W in [0, 1], of any size. Of more than three channels the first three are shown.
        captions: B lines (the target, say), or none. A caption that ends in ", right" or ", wrong" is colored
            accordingly.
    """

    title: str
    images: Tensor
    captions: Sequence[str] = ()


class InputSpec(NamedTuple):
    """How a backbone normalizes its input. The backbone applies this itself; callers always pass images in [0, 1].

    Attributes:
        mean: Per channel, subtracted.
        std: Per channel, divided by.
        channels: Number of input channels.
        grayscale: True if the network sees only lightness, since it was trained to predict colors, say.
        value_range: The values in the files that are mapped to 0 and 1, for images of more than 8 bits. None: 0 and
            255.
        pages_as_channels: True if the user set ``channels``, so that as many equal pages of a TIFF are one image.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int = 3
    grayscale: bool = False
    value_range: tuple[float, float] | None = None
    pages_as_channels: bool = False


class DataInfo(NamedTuple):
    """All that a recipe knows about the data and the size of its views.

    Attributes:
        num_images: Number of images in the data set.
        channels: Channels of each image.
        sample_images: ``sample_images(n)`` returns n images spread evenly over the data set, n C H W, uint8 (or float32
            in [0, 1]).
        input_size: Side in pixels of the square main view that the network sees.
    """

    num_images: int
    channels: int
    sample_images: Callable[[int], Tensor]
    input_size: int = 64


@runtime_checkable
class Backbone(Protocol):
    """The network that is kept after pretraining: images -> features. Our ViTs and the timm adapter implement it.

    Attributes:
        embed_dim: D, the dimension of ``pooled`` and of every token.
        patch_size: Side of a patch in pixels (for a convolutional network its total stride).
        input_spec: The normalization of its input.
        supports: Which of ``keep_indices``, ``mask``, ``use_pos_embed`` and ``return_layers`` it implements.
        mask_value_dim: Length of ``mask_value``: D if tokens are masked, the number of channels if pixels are.
        depth: Number of layers for ``return_layers``; 0 if it does not support them.
    """

    embed_dim: int
    patch_size: int
    input_spec: InputSpec
    supports: frozenset[str]
    mask_value_dim: int
    depth: int

    def __call__(
        self,
        images: Tensor,
        *,
        keep_indices: Tensor | None = None,
        mask: Tensor | None = None,
        mask_value: Tensor | None = None,
        use_pos_embed: bool = True,
        return_layers: Sequence[int] = (),
    ) -> Features:
        """Compute features.

        Args:
            images: B C H W, floating point in [0, 1]; any H and W that ``patch_size`` divides.
            keep_indices: B K, int64: the only patches that enter the network (MAE), row-major.
            mask: B N, bool: patches whose content is replaced by ``mask_value``.
            mask_value: ``mask_value_dim`` numbers that replace masked content; None means zeros.
            use_pos_embed: False hides the positions of patches. Embeddings are multiplied by 0, so that every parameter
                keeps a gradient.
            return_layers: Blocks whose outputs are returned as well; 0 is the first, -1 the last.
        """
        ...


class PretextTask(nn.Module):
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

    def make_views(self, batch: Batch, rng: SampleRNG) -> Any:
        """Make views and targets, with random numbers per image. Runs without gradients.

        Random numbers for ``forward`` are drawn here too, so that ``forward`` is a function of its arguments.
        """
        raise NotImplementedError

    def forward(self, backbone: Backbone, views: Any, clock: TrainingClock) -> TaskOutput:
        """Compute the loss. It changes no buffers but those of batch norms. Losses are float32 or wider."""
        raise NotImplementedError

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

    backbone: Any  # a Backbone; torch types submodules as Tensor | Module
    task: PretextTask

    def __init__(self, backbone: nn.Module, task: PretextTask):
        super().__init__()
        self.backbone, self.task = backbone, task

    def forward(self, batch: Batch, rng: SampleRNG, clock: TrainingClock) -> TaskOutput:
        """Make the views of one (micro-)batch and compute the loss."""
        with torch.no_grad(), torch.autocast(batch.images.device.type, enabled=False):
            views = self.task.make_views(batch, rng)
        with rng.fold_in("network").use_for_dropout():
            return self.task(self.backbone, views, clock)
