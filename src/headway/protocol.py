"""The nouns of the house: what the parts hand to one another, and what each must be able to do.

Letters in shapes: B batch, V views, C H W channels/height/width, N patches, T tokens, P prefix tokens, D width.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from headway.draws import Draws


class Batch(NamedTuple):
    """Pictures as the loader hands them over.

    Attributes:
        images: B C H W, uint8 in 0..255 (or float32 in [0, 1] for pictures of more than 8 bits).
        index: B, int64: the position of each picture in the data set.
    """

    images: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody asks a batch for


class Clock(NamedTuple):
    """Where the run is. Every schedule is a pure function of it.

    Attributes:
        step: Optimiser steps already taken, 0 <= step <= total.
        total: Optimiser steps of the whole run.
        epoch: Passes over the data so far, fractions included.
    """

    step: int
    total: int
    epoch: float

    @property
    def progress(self) -> float:
        """The share of the run that is over, in [0, 1]."""
        return self.step / max(self.total, 1)


class Features(NamedTuple):
    """What a backbone makes of B pictures. A NamedTuple is a pytree: autocast, DDP, compile and export walk it.

    Attributes:
        pooled: B D, one vector a picture.
        patches: B N D, one a patch (a convolutional network's last map, flattened; N is smaller under ``keep``).
        prefix: B P D, class token and registers; P may be 0.
        grid: Rows and columns of patches of the whole picture, so that rows x columns = N where nothing was dropped.
        layers: B P+N D for each layer asked for, in the order asked.
    """

    pooled: Tensor
    patches: Tensor
    prefix: Tensor
    grid: tuple[int, int]
    layers: tuple[Tensor, ...] = ()


class Outcome(NamedTuple):
    """What a task says of one batch.

    Attributes:
        loss: A scalar: the mean over this process's pictures (the engine weighs it by their share of the batch).
        metrics: Detached scalars by name, averaged over processes in the log.
        carry: Whatever ``after_step`` needs of this batch (features for a queue, sums for a centre); detached.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    carry: Any = None


class Panel(NamedTuple):
    """One column of the sheet on which a person sees a game: a picture for each sample, and a line below each.

    Attributes:
        title: What the column shows ("dealt", "the answer", "the truth").
        images: B C H W in [0, 1], of any side; of more channels than three the first three are shown.
        captions: B lines (the generated label, say), or none; one that ends in ", right" or ", wrong" is coloured so.
    """

    title: str
    images: Tensor
    captions: Sequence[str] = ()


class Inputs(NamedTuple):
    """How a backbone wants its pictures; it applies this itself, callers always pass [0, 1].

    Attributes:
        mean: Per channel, subtracted.
        std: Per channel, divided by.
        channels: How many channels go in.
        grey: True where the network sees lightness alone (it was trained to guess the colours, say).
        span: The values in the files that became 0 and 1, where they have more than 8 bits; None: 0 and 255.
        pages: True where so many channels were asked for, so that as many equal pages of a TIFF are one picture.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int = 3
    grey: bool = False
    span: tuple[float, float] | None = None
    pages: bool = False


class Facts(NamedTuple):
    """What a recipe may know of the data and of the run's shape, and nothing else.

    Attributes:
        count: Pictures in the data set.
        channels: Channels of each.
        sample: ``sample(n)`` gives n pictures spread evenly over the data set, B C H W uint8 (or float32 in [0, 1]).
        size: Side in pixels of the square main view that the network will see.
    """

    count: int  # type: ignore[assignment]  # hides tuple.count
    channels: int
    sample: Callable[[int], Tensor]
    size: int = 64


@runtime_checkable
class Backbone(Protocol):
    """The network that is kept: images -> features. Our ViTs and the timm adapter are both one.

    Attributes:
        embed_dim: D, the width of ``pooled`` and of every token.
        patch_size: Pixels a side of a patch (a convolutional network's total stride).
        inputs: Owns normalisation and greying: images come in [0, 1].
        can: Which of ``keep``, ``mask``, ``place`` and ``layers`` it understands.
        fill_dim: Length of a ``fill`` vector: D for tokens, the number of channels where masked pixels are painted.
        depth: How many ``layers`` there are; 0 where ``can`` doesn't name them.
    """

    embed_dim: int
    patch_size: int
    inputs: Inputs
    can: frozenset[str]
    fill_dim: int
    depth: int

    def __call__(
        self,
        images: Tensor,
        *,
        keep: Tensor | None = None,
        mask: Tensor | None = None,
        fill: Tensor | None = None,
        place: bool = True,
        layers: Sequence[int] = (),
    ) -> Features:
        """Compute features.

        Args:
            images: B C H W, floating point in [0, 1]; any H and W that ``patch_size`` divides.
            keep: B K, int64: the only patches that enter the network (MAE), row-major.
            mask: B N, bool: patches whose content is replaced by ``fill``.
            fill: ``fill_dim`` numbers that stand in for masked content; None means zeros.
            place: False hides where patches are (positions times 0, so that every parameter keeps a gradient).
            layers: Which blocks' outputs to give as well; 0 is the first, -1 the last.
        """
        ...


class PretextTask(nn.Module):
    """A game on unlabelled pictures: it deals views, then scores what the network makes of them.

    The only base class of the house; a task is never subclassed. It *receives* the backbone and never owns it, so that
    transfer is "drop ``task.*``, join a head".

    Attributes:
        needs: What the backbone must be able to do; checked against ``backbone.can`` before anything starts.
        couples_batch: True where the loss of one picture depends on the others (SimCLR, VICReg, any batch norm); the
            engine then refuses to split the batch.
        minimum_batch: The smallest global batch for which the loss means anything.
        phases: Shares of the run, in [0, 1) and rising from 0, at which a step begins to cost another time.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    couples_batch: ClassVar[bool] = False
    minimum_batch: ClassVar[int] = 1
    phases: tuple[float, ...] = (0.0,)

    def views(self, batch: Batch, draws: "Draws") -> Any:
        """Deal the cards: views and generated labels, by chance drawn per picture. Runs without gradients.

        What is random in ``forward`` is drawn here too, so that ``forward`` stays a function of its arguments.
        """
        raise NotImplementedError

    def forward(self, backbone: Backbone, views: Any, clock: Clock) -> Outcome:
        """Score. Pure: changes no buffer but a batch norm's. Loss arithmetic is float32 or wider."""
        raise NotImplementedError

    def after_step(self, backbone: Backbone, carries: Sequence[Any], clock: Clock) -> None:
        """The only hook, once an optimiser step: teachers, centres, queues.

        Args:
            backbone: The backbone after the step.
            carries: ``Outcome.carry`` of every micro-batch of the step on this process, in order.
            clock: The clock after the step.
        """

    def panels(self, batch: Batch, views: Any, backbone: Backbone | None = None) -> list[Panel]:
        """The game for a person to see: what is dealt and which labels are generated. Runs without gradients.

        A task tells its own story by its own method; what stands here lays out every view that is a picture.

        Args:
            batch: The pictures.
            views: What ``views`` dealt of them.
            backbone: The trained network; given, its answer stands beside the truth.
        """
        b = len(batch.images)
        pictures = [leaf for leaf in tree_leaves(views) if isinstance(leaf, Tensor) and leaf.ndim == 4]
        views_of = [part for leaf in pictures for part in leaf.split(b)]  # each B C H W
        return [Panel(f"view {i}", images.float()) for i, images in enumerate(views_of, 1)]


class Learner(nn.Module):
    """The ONE module that the engine wraps; its state dict is ``backbone.* | task.*``."""

    backbone: Any  # a module that is a Backbone; torch types what it holds as Tensor | Module
    task: PretextTask

    def __init__(self, backbone: nn.Module, task: PretextTask):
        super().__init__()
        self.backbone, self.task = backbone, task

    def forward(self, batch: Batch, draws: "Draws", clock: Clock) -> Outcome:
        """Deal and score one (micro-)batch."""
        with torch.no_grad(), torch.autocast(batch.images.device.type, enabled=False):
            views = self.task.views(batch, draws)
        with draws.fork("network").active():  # dropout and drop-path take their masks from here
            return self.task(self.backbone, views, clock)
