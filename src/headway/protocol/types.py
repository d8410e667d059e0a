"""The types that the parts of the package exchange.

Letters in shapes: B batch, V views, C H W channels/height/width, N patches, T tokens, P prefix tokens, D embed_dim.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor


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
