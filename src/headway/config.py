"""Typed configs of recipes and optimizers: frozen dataclasses with a docstring on every field."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from headway.errors import HeadwayError, unknown_name_error

if TYPE_CHECKING:
    from headway.protocol import Backbone, DataInfo, PretextTask


class TaskConfig(Protocol):
    """The settings of one pretext task: a frozen dataclass with a docstring on every field."""

    def build(self, backbone: "Backbone", data_info: "DataInfo") -> "PretextTask":
        """Build the task for this backbone and this data."""
        ...


def check_range(
    config: Any, field_names: str, *, above: float = -math.inf, at_least: float = -math.inf, at_most: float = math.inf,
    below: float = math.inf, increasing: bool = False,
) -> None:  # fmt: skip
    """Refuse fields that lie outside their bounds, or are not finite.

    Args:
        config: A dataclass.
        field_names: Names of fields, separated by spaces. Each holds a number, a tuple of numbers that are all checked,
            or None.
        above: Lower bound, excluded.
        at_least: Lower bound.
        at_most: Upper bound.
        below: Upper bound, excluded.
        increasing: A tuple must be sorted from low to high.

    Raises:
        HeadwayError: Names the config, the field, its bounds and its value.
    """
    limits = {"above": above, "at least": at_least, "below": below, "at most": at_most}
    words = " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit))
    for name in field_names.split():
        given = getattr(config, name)
        numbers = given if isinstance(given, tuple) else () if given is None else (given,)
        fits = all(math.isfinite(x) and above < x < below and at_least <= x <= at_most for x in numbers)
        if not fits or (increasing and list(numbers) != sorted(numbers)):
            order = ", from low to high" if increasing else ""
            owner = type(config).__module__.rpartition(".")[2]
            raise HeadwayError(
                "value-out-of-range", f"{owner} {name} must be {words or 'a finite number'}{order}; got {given}"
            )


@dataclass(frozen=True)
class Rule:
    """Optimizer settings of the parameters whose name matches a pattern; the first rule that matches counts."""

    pattern: str
    """Regular expression, searched in the parameter's name (backbone.blocks.0.attention.qkv.weight, say)."""
    lr_scale: float = 1.0
    """Factor on the learning rate."""
    wd_scale: float = 1.0
    """Factor on the weight decay."""
    orthogonal: bool = False
    """Whether Muon updates the matrices among these, as it does where no rule matches."""


NO_DECAY = (
    Rule(
        r"(bias|(norm|bn)\d*\.weight|gamma|class_token|cls_token|registers|reg_token|pos_embed|mask_token)$",
        wd_scale=0.0,
    ),
)
"""No weight decay for biases, norms, layer scales, tokens and position embeddings."""


@dataclass(frozen=True)
class Optim:
    """AdamW (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101) or Muon, with warm-up and cosine.

    The learning rate rises linearly and then follows a cosine schedule.
    """

    method: Literal["adamw", "muon"] = "adamw"
    """AdamW; or Muon for matrices and convolutions and AdamW for the rest. Muon's steps cost a little more, and small
    networks learn much more from them (headway/train/engine/muon.py has the formula and the papers)."""
    lr: float = 1e-3
    """Peak learning rate at batch size 256. The peak is lr x batch size / 256 up to batch size 1024, and grows with the
    square root of the batch size beyond."""
    weight_decay: float = 0.05
    """Weight decay of every weight that no rule exempts."""
    final_weight_decay: float | None = None
    """Weight decay at the end, reached by a cosine schedule; None: it stays constant."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates of the running means of the gradient and of its square."""
    momentum: float = 0.95
    """Muon's momentum."""
    warmup_fraction: float = 0.05
    """Share of the run over which the learning rate rises."""
    min_lr_ratio: float = 0.01
    """Learning rate at the end, as a share of the peak."""
    max_grad_norm: float = 3.0
    """Gradients are clipped to this norm; 0: no clipping."""
    rules: tuple[Rule, ...] = NO_DECAY
    """Exceptions by parameter name."""

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay", "max_grad_norm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise HeadwayError(
                    "value-out-of-range", f"optim {name} must be a finite number of 0 or more, got {value}"
                )
        if self.method not in ("adamw", "muon"):
            raise unknown_name_error("optim method", self.method, ("adamw", "muon"))
        if not all(0 <= beta < 1 for beta in (*self.betas, self.momentum)):
            raise HeadwayError(
                "value-out-of-range", f"optim betas and momentum lie in [0, 1), got {self.betas} and {self.momentum}"
            )
        if not 0 <= self.min_lr_ratio <= 1:
            raise HeadwayError(
                "value-out-of-range", f"optim min_lr_ratio is a share of the peak in [0, 1], got {self.min_lr_ratio}"
            )
        if not 0 <= self.warmup_fraction < 1:
            raise HeadwayError(
                "value-out-of-range",
                f"optim warmup_fraction is a share of the run in [0, 1), got {self.warmup_fraction}",
            )

    def peak_lr(self, batch_size: int) -> float:
        """The peak learning rate for this global batch size."""
        return self.lr * (batch_size / 256 if batch_size <= 1024 else 4 * math.sqrt(batch_size / 1024))


MUON = Optim(method="muon", lr=4e-3, weight_decay=0.05)
"""The optimizer of most tasks."""
Task = TypeVar("Task", bound=TaskConfig)


@dataclass(frozen=True)
class Recipe(Generic[Task]):
    """A task with all settings of its paper."""

    task: Task
    """Settings of the task."""
    optim: Optim = field(default_factory=Optim)
    """Settings of the optimizer."""
    epochs: int = 100
    """Passes over the data where no budget, epochs or steps are given."""
    batch_size: int = 256
    """Images per step, over all processes."""
    storage_scale: float = 1.5
    """Stored side of an image divided by the side of the main view: crops are cut from more pixels than they show."""
    pooling: Literal["mean", "class"] = "mean"
    """How ``Features.pooled`` is computed: the mean of the patch tokens, or the class token."""
    grayscale: bool = False
    """Whether the backbone takes grayscale input only."""
