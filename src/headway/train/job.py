"""What a pretraining is asked to do, and the sizes that follow from the pictures."""

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from headway.backbones.load import auto_patch
from headway.config import Recipe
from headway.errors import HeadwayError, unknown

LARGEST = 224
"""Side of the main view where pictures are larger and nothing else is said."""
TIMM_STRIDE = 32
"""What nearly all of timm's networks shrink a picture by."""


@dataclass(frozen=True)
class Job:
    """What was asked for; with the data, all that a run depends on."""

    task: str
    """Name of the task."""
    recipe: Recipe
    """The task with every choice."""
    backbone: str = "vit_tiny"
    """Name of the backbone."""
    stem: Literal["linear", "conv", "residual"] = "linear"
    """How a ViT makes patches into tokens."""
    patch: int = 0
    """Pixels a side of a patch; 0: 4 up to 32 pixels, 8 up to 96, 16 above."""
    size: int = 0
    """Side of the main view in pixels; 0: the median short side, at most 224, rounded down to whole patches."""
    budget: float | None = None
    """Seconds from command to finished run."""
    epochs: float | None = None
    """Passes over the data."""
    steps: int | None = None
    """Optimiser steps."""
    seed: int = 0
    """Of weights, order and draws."""
    accumulate: int = 1
    """Micro-batches a step."""
    precision: Literal["auto", "float32", "bf16", "float64"] = "auto"
    """Of the arithmetic; auto: whichever is faster here."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the backbone is compiled; auto: tried where the run lasts over 20 minutes."""
    recompute: bool = False
    """Whether blocks are computed again in the backward pass, to save memory."""
    weights: str = ""
    """Where the backbone's first weights come from; none: chance."""
    extend: str = ""
    """The run that this one goes on from; none: it begins anew."""
    on_collapse: Literal["warn", "stop", "rollback"] = "warn"
    """What follows when features collapse."""

    def __post_init__(self) -> None:
        lengths = {
            name: getattr(self, name) for name in ("budget", "epochs", "steps") if getattr(self, name) is not None
        }
        if len(lengths) > 1:
            raise HeadwayError(f"{' and '.join('--' + n for n in lengths)} exclude one another; give one of them")
        recipe = self.recipe
        numbers = {"recipe.batch": recipe.batch, "recipe.epochs": recipe.epochs, "recipe.detail": recipe.detail}
        for name, value in {**lengths, **numbers, "accumulate": self.accumulate}.items():
            if not (math.isfinite(value) and value > 0):
                raise HeadwayError(f"--{name} must be a number above 0, got {value}")
        for name, value, most in (
            ("size", self.size, 4096),
            ("patch", self.patch, 4096),
            ("seed", self.seed, 2**63 - 1),
        ):
            if not 0 <= value <= most:
                raise HeadwayError(f"--{name} must lie in 0..{most}, got {value}")
        if self.weights and self.extend:
            raise HeadwayError("--weights and --extend exclude one another: a run that is extended has its own weights")
        for name in ("stem", "precision", "compile", "on_collapse"):
            allowed = get_args(type(self).__annotations__[name])
            if getattr(self, name) not in allowed:
                raise unknown(name, str(getattr(self, name)), allowed)


def seconds_of(text: str | float) -> float:
    """Seconds in a duration such as "90s", "2m", "1h30m" or a plain number of seconds. Raises HeadwayError."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", str(text).strip().lower())
    if not match or not any(match.groups()):
        raise HeadwayError(f"cannot read the duration '{text}'; write 90s, 2m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def main_size(natural: int, job: Job) -> tuple[int, int]:
    """Side of the main view, and the patch to ask the backbone for (0: it has its own).

    Args:
        natural: The pictures' median short side.
        job: Its ``size``, ``patch`` and ``backbone`` count.

    Raises:
        HeadwayError: Where the view would hold fewer than 2 x 2 patches, or is no multiple of the patch.
    """
    side = job.size or min(natural, LARGEST)
    own = job.backbone.startswith("timm:")
    patch = TIMM_STRIDE if own else job.patch or auto_patch(side)
    if own and job.patch:
        raise HeadwayError(f"{job.backbone} has patches of its own; leave --patch out")
    if own:  # any side will do for most of them; whole strides are what they were made for
        return job.size or max(side // patch, 1) * patch, 0
    if job.size and side % patch:
        raise HeadwayError(
            f"--size {side} is no multiple of the patch of {patch} pixels; {max(side // patch, 2) * patch} is"
        )
    side = side // patch * patch
    if side < 2 * patch:
        raise HeadwayError(
            f"views of {side or natural} pixels hold fewer than 2 x 2 patches of {patch}; give a larger --size"
        )
    return side, patch


DETAIL = 1.5
"""For ``stored_side``, where the pictures are labelled or measured: views are cut from them that hold less of them."""


def stored_side(natural: int, size: int, detail: float) -> int:
    """Side at which pictures are stored: ``detail`` times the view where they have the pixels, never below it."""
    return max(size, min(natural, round(size * detail)))
