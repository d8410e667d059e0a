"""What a run is made of: typed Python, frozen, a docstring on every field."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from headway.errors import HeadwayError, unknown_name_error

if TYPE_CHECKING:
    from headway.protocol import Backbone, DataInfo, PretextTask


class TaskConfig(Protocol):
    """Every choice of one pretext task: a frozen dataclass with a docstring on every field."""

    def build(self, backbone: "Backbone", data_info: "DataInfo") -> "PretextTask":
        """Make the task for this backbone and this data."""
        ...


def check_range(
    config: Any, field_names: str, *, above: float = -math.inf, at_least: float = -math.inf, at_most: float = math.inf,
    below: float = math.inf, increasing: bool = False,
) -> None:  # fmt: skip
    """Refuse choices that lie outside of their bounds, or are no finite numbers.

    Args:
        config: The dataclass that holds them.
        names: Of fields, with spaces between; each a number, a tuple of numbers that are all held to it, or None.
        above: They must be more.
        at_least: They must be as much.
        at_most: They must be no more.
        below: They must be less.
        rising: A tuple must not fall.

    Raises:
        HeadwayError: With the config, the field, what it may be and what was given.
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
            raise HeadwayError(f"{owner} {name} must be {words or 'a finite number'}{order}; got {given}")


@dataclass(frozen=True)
class Rule:
    """Settings of the parameters whose name matches a pattern; the first rule that matches counts."""

    pattern: str
    """Regular expression, searched in the parameter's name (backbone.blocks.0.attention.qkv.weight, say)."""
    lr_scale: float = 1.0
    """Factor on the learning rate."""
    wd_scale: float = 1.0
    """Factor on the weight decay."""
    orthogonal: bool = False
    """Whether Muon moves what it can of these, as it does of everything that no rule names."""


NO_DECAY = (
    Rule(
        r"(bias|(norm|bn)\d*\.weight|gamma|class_token|cls_token|registers|reg_token|positions|pos_embed|mask_token)$",
        wd_scale=0.0,
    ),
)
"""Vectors are not decayed: biases, norms, tokens and positions."""


@dataclass(frozen=True)
class Optim:
    """AdamW (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101) or Muon, with warm-up and cosine."""

    method: Literal["adamw", "muon"] = "adamw"
    """How weights are moved: AdamW; or Muon for matrices and convolutions and AdamW for the rest, whose steps cost a
    little more and teach small networks much more (headway/train/engine/muon.py has the formula and the papers)."""
    lr: float = 1e-3
    """Peak learning rate at batch 256; the rate in force is lr x batch / 256 up to batch 1024, then by square root."""
    weight_decay: float = 0.05
    """Decay of every weight that no rule exempts."""
    final_weight_decay: float | None = None
    """Decay at the end, reached by a cosine; none: it stays."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Memory of the mean and of the square of gradients."""
    momentum: float = 0.95
    """Memory of Muon's gradients."""
    warmup_fraction: float = 0.05
    """Share of the run over which the rate rises."""
    min_lr_ratio: float = 0.01
    """The rate at the end, as a share of the peak."""
    max_grad_norm: float = 3.0
    """Gradients are shortened to this norm; 0 leaves them."""
    rules: tuple[Rule, ...] = NO_DECAY
    """Exceptions by parameter name."""

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay", "max_grad_norm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise HeadwayError(f"optim {name} must be a finite number of 0 or more, got {value}")
        if self.method not in ("adamw", "muon"):
            raise unknown_name_error("optim method", self.method, ("adamw", "muon"))
        if not all(0 <= beta < 1 for beta in (*self.betas, self.momentum)):
            raise HeadwayError(f"optim betas and momentum lie in [0, 1), got {self.betas} and {self.momentum}")
        if not 0 <= self.min_lr_ratio <= 1:
            raise HeadwayError(f"optim final is a share of the peak in [0, 1], got {self.min_lr_ratio}")
        if not 0 <= self.warmup_fraction < 1:
            raise HeadwayError(f"optim warmup is a share of the run in [0, 1), got {self.warmup_fraction}")

    def peak_lr(self, batch_size: int) -> float:
        """The peak learning rate for this global batch."""
        return self.lr * (batch_size / 256 if batch_size <= 1024 else 4 * math.sqrt(batch_size / 1024))


Task = TypeVar("Task", bound=TaskConfig)


@dataclass(frozen=True)
class Recipe(Generic[Task]):
    """A task with every choice its paper makes."""

    task: Task
    """The task and its settings."""
    optim: Optim = field(default_factory=Optim)
    """How weights are moved."""
    epochs: int = 100
    """Passes over the data where neither budget, epochs nor steps are given."""
    batch_size: int = 256
    """Images a step, over all processes."""
    storage_scale: float = 1.5
    """Stored side of an image / side of the main view: crops and tiles are cut from more pixels than they show."""
    pooling: Literal["mean", "class"] = "mean"
    """What ``pooled`` is: the mean of the patch tokens, or the class token."""
    grayscale: bool = False
    """True where the backbone may see lightness alone."""
