"""How a run is carried out, and how it ended: plain records."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from headway.errors import HeadwayError


@dataclass(frozen=True)
class Plan:
    """How a run is carried out; fixed before its first step and recorded."""

    steps: int
    """Optimiser steps in all."""
    batch: int
    """Pictures a step, over all processes and micro-batches."""
    seed: int = 0
    """Of draws and order."""
    accumulate: int = 1
    """Micro-batches a step on each process; more of them once memory runs out."""
    precision: Literal["float32", "bf16", "float64"] = "float32"
    """Of the arithmetic; weights and losses stay at float32 or wider."""
    form: Literal["plain", "fused"] = "fused"
    """How attention is computed."""
    compile: bool = False
    """Whether the backbone is compiled."""
    recompute: bool = False
    """Whether blocks are computed again in the backward pass rather than kept: less memory, about a third more time."""
    shard: bool = False
    """Whether weights, gradients and moments are cut over the processes (FSDP2) rather than held by each (DDP)."""
    first: int = 0
    """Place in the sample stream of the first picture: where the run that this one extends had come to."""
    save_every: int = 0
    """Steps between checkpoints; 0: at the beginning and the end alone."""
    log_every: int = 10
    """Steps between log lines."""
    probe_every: int = 0
    """Steps between probes, where one is handed in; 0: at the end alone."""
    probe_start: bool = False
    """Whether the probe is measured before the first step too."""
    watch_every: int = 0
    """Steps between looks at the features for collapse, where an eye is handed in; 0: never."""
    on_collapse: Literal["warn", "stop", "rollback"] = "warn"
    """What follows a collapse: a note, the end of the run, or a return to the last checkpoint before it."""

    def __post_init__(self) -> None:
        counts = {"steps": 1, "batch": 1, "accumulate": 1, "first": 0, "save_every": 0, "log_every": 0,
                  "probe_every": 0, "watch_every": 0}  # fmt: skip
        for name, least in counts.items():
            if getattr(self, name) < least:
                raise HeadwayError(f"a plan's {name} must be {least} or more, got {getattr(self, name)}")


class Report(NamedTuple):
    """How a run ended.

    Attributes:
        steps: Taken in all, those before a resume included.
        seconds: Spent now, probes not counted.
        loss: The last mean that was logged; NaN where no step was left to take.
        pictures: A second.
        skipped: Steps that moved nothing, their loss or gradient being no number.
        accumulate: Micro-batches a step at the end; more than planned where memory ran out.
    """

    steps: int
    seconds: float
    loss: float
    pictures: float
    skipped: int = 0
    accumulate: int = 1
