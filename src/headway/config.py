"""What a run is made of: typed Python, frozen, a docstring on every field."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as hints_of

from headway.errors import HeadwayError, unknown

if TYPE_CHECKING:
    from headway.protocol import Backbone, Facts, PretextTask


class TaskConfig(Protocol):
    """Every choice of one pretext task: a frozen dataclass with a docstring on every field."""

    def build(self, backbone: "Backbone", facts: "Facts") -> "PretextTask":
        """Make the task for this backbone and this data."""
        ...


def bound(
    config: Any, names: str, *, above: float = -math.inf, at_least: float = -math.inf, at_most: float = math.inf,
    below: float = math.inf, rising: bool = False,
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
    for name in names.split():
        given = getattr(config, name)
        numbers = given if isinstance(given, tuple) else () if given is None else (given,)
        fits = all(math.isfinite(x) and above < x < below and at_least <= x <= at_most for x in numbers)
        if not fits or (rising and list(numbers) != sorted(numbers)):
            order = ", from low to high" if rising else ""
            owner = type(config).__module__.rpartition(".")[2]
            raise HeadwayError(f"{owner} {name} must be {words or 'a finite number'}{order}; got {given}")


@dataclass(frozen=True)
class Rule:
    """Settings of the parameters whose name matches a pattern; the first rule that matches counts."""

    pattern: str
    """Regular expression, searched in the parameter's name (backbone.blocks.0.attention.qkv.weight, say)."""
    rate: float = 1.0
    """Factor on the learning rate."""
    decay: float = 1.0
    """Factor on the weight decay."""
    orthogonal: bool = False
    """Whether Muon moves what it can of these, as it does of everything that no rule names."""


NO_DECAY = (
    Rule(
        r"(bias|(norm|bn)\d*\.weight|gamma|class_token|cls_token|registers|reg_token|positions|pos_embed|mask_token)$",
        decay=0.0,
    ),
)
"""Vectors are not decayed: biases, norms, tokens and positions."""


@dataclass(frozen=True)
class Optim:
    """AdamW (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101) or Muon, with warm-up and cosine."""

    method: Literal["adamw", "muon"] = "adamw"
    """How weights are moved: AdamW; or Muon for matrices and convolutions and AdamW for the rest, whose steps cost a
    little more and teach small networks much more (headway/train/muon.py has the formula and the papers)."""
    lr: float = 1e-3
    """Peak learning rate at batch 256; the rate in force is lr x batch / 256 up to batch 1024, then by square root."""
    weight_decay: float = 0.05
    """Decay of every weight that no rule exempts."""
    final_decay: float | None = None
    """Decay at the end, reached by a cosine; none: it stays."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Memory of the mean and of the square of gradients."""
    momentum: float = 0.95
    """Memory of Muon's gradients."""
    warmup: float = 0.05
    """Share of the run over which the rate rises."""
    final: float = 0.01
    """The rate at the end, as a share of the peak."""
    clip: float = 3.0
    """Gradients are shortened to this norm; 0 leaves them."""
    rules: tuple[Rule, ...] = NO_DECAY
    """Exceptions by parameter name."""

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay", "clip"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise HeadwayError(f"optim {name} must be a finite number of 0 or more, got {value}")
        if self.method not in ("adamw", "muon"):
            raise unknown("optim method", self.method, ("adamw", "muon"))
        if not all(0 <= beta < 1 for beta in (*self.betas, self.momentum)):
            raise HeadwayError(f"optim betas and momentum lie in [0, 1), got {self.betas} and {self.momentum}")
        if not 0 <= self.final <= 1:
            raise HeadwayError(f"optim final is a share of the peak in [0, 1], got {self.final}")
        if not 0 <= self.warmup < 1:
            raise HeadwayError(f"optim warmup is a share of the run in [0, 1), got {self.warmup}")

    def peak(self, batch: int) -> float:
        """The peak learning rate for this global batch."""
        return self.lr * (batch / 256 if batch <= 1024 else 4 * math.sqrt(batch / 1024))


Task = TypeVar("Task", bound=TaskConfig)


@dataclass(frozen=True)
class Recipe(Generic[Task]):
    """A task with every choice its paper makes."""

    task: Task
    """The game and its settings."""
    optim: Optim = field(default_factory=Optim)
    """How weights are moved."""
    epochs: int = 100
    """Passes over the data where neither budget, epochs nor steps are given."""
    batch: int = 256
    """Pictures a step, over all processes."""
    detail: float = 1.5
    """Stored side of a picture / side of the main view: crops and tiles are cut from more pixels than they show."""
    pool: Literal["mean", "class"] = "mean"
    """What ``pooled`` is: the mean of the patch tokens, or the class token."""
    grey: bool = False
    """True where the backbone may see lightness alone."""


def describe(thing: Any) -> Any:
    """Plain data that says what a config is, as it reads back from JSON: dataclasses become dictionaries with their
    type's name, tuples lists.
    """
    if hasattr(thing, "__dataclass_fields__"):
        fields = {name: describe(getattr(thing, name)) for name in thing.__dataclass_fields__}
        return {"type": _name(type(thing)), **fields}
    if isinstance(thing, (list, tuple)):
        return [describe(item) for item in thing]
    return thing


def misfit(plain: Any, hint: Any, key: str = "") -> str | None:
    """Why plain data, as JSON gives it back, is not of a declared type ("job.seed is 'x', not int"); None where it is.

    Args:
        plain: The data.
        hint: A type as fields are declared with, or a mapping from the keys that a dictionary must have to theirs.
        key: Where the data stand, for the sentence.
    """
    if not isinstance(hint, Mapping):
        return None if _fits(plain, hint) else f"{key} is {plain!r:.60}, not {_words(hint)}"
    if not isinstance(plain, dict):
        return f"{key or 'it'} is {plain!r:.60}, not a dictionary"
    for name, inner in hint.items():
        where = f"{key}.{name}" if key else name
        if name not in plain:
            return f"{where} is missing"
        if fault := misfit(plain[name], inner, where):
            return fault
    return None


def _fits(plain: Any, hint: Any) -> bool:
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(plain, option) for option in inner)
    if kind is Literal:
        return isinstance(plain, str) and plain in inner
    if hint in (None, NoneType):
        return plain is None
    if hint in (bool, int, str):
        return type(plain) is hint  # a bool is no number here
    if hint is float:
        return type(plain) in (int, float)
    if kind in (list, tuple):
        if not isinstance(plain, (list, tuple)):
            return False
        if kind is tuple and Ellipsis not in inner:
            return len(plain) == len(inner) and all(map(_fits, plain, inner))
        return all(_fits(item, inner[0]) for item in plain)
    if kind is dict:
        return isinstance(plain, dict) and all(_fits(value, inner[1]) for value in plain.values())
    return not hasattr(hint, "__dataclass_fields__") or isinstance(plain, dict)


def _words(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint).replace("typing.", "")


def recall(plain: Any, like: Any, hint: Any = Any, key: str = "recipe") -> Any:
    """The config of which ``describe`` gave plain data, also after a trip through JSON.

    Nothing is imported by a name in ``plain``: a record may be a stranger's. Types come from ``like`` and from what the
    fields of its type are declared to hold.

    Args:
        plain: What ``describe`` gave.
        like: A config of the same type, the recipe's default say; fields that ``plain`` lacks are taken from it.
        hint: The declared type of the field that holds it.
        key: Where ``plain`` stands, for the errors.

    Raises:
        HeadwayError: A type or a field that ``like`` does not know of, or a value that a field cannot hold.
    """
    declared = _configs(hint) or not hasattr(like, "__dataclass_fields__")  # a Recipe's task is of any type
    if fault := misfit(plain, hint if declared else type(like), key):
        raise HeadwayError(fault)
    if isinstance(plain, list):
        known = like if isinstance(like, tuple) else ()
        inner: Any = Union[tuple(_configs(hint)) or (Any,)]  # noqa: UP007  # the rest was looked at with the list
        return tuple(
            recall(item, known[i] if i < len(known) else None, inner, f"{key}[{i}]") for i, item in enumerate(plain)
        )
    if not isinstance(plain, dict):
        return plain
    fields = dict(plain)
    named = fields.pop("type", None)
    kind = next((kind for kind in (type(like), *_configs(hint)) if _name(kind) == named), None)
    if kind is None:
        raise HeadwayError(f"{key} is a {named} where {_name(type(like))} was expected")
    hints = hints_of(kind)
    mine = like if isinstance(like, kind) else None
    if odd := fields.keys() - kind.__dataclass_fields__.keys():
        raise HeadwayError(f"{key} is a {named}, which has no {', '.join(sorted(odd))}")
    defaults = {name: getattr(mine, name) for name in kind.__dataclass_fields__ if mine is not None}
    given = {name: recall(fields[name], defaults.get(name), hints[name], f"{key}.{name}") for name in fields}
    try:
        return kind(**{**defaults, **given})
    except (HeadwayError, TypeError, ValueError) as error:
        raise HeadwayError(f"{key}: {error}") from error


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _configs(hint: Any) -> list[Any]:
    """The dataclasses in a declared type, ``Augment | None`` or ``tuple[Rule, ...]`` say."""
    return (
        [hint]
        if hasattr(hint, "__dataclass_fields__")
        else [kind for part in get_args(hint) for kind in _configs(part)]
    )
