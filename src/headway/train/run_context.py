"""What the phases of a pretraining share, and what they pass on to one another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from headway.data.dataset.image_store import ImageStore
from headway.data.sources.base import Source
from headway.errors import HeadwayError
from headway.train.config import PretrainConfig
from headway.train.init.parent_run import ParentRun, read_parent_run
from headway.train.log.dashboards import FaultTolerantSink, check_loggers
from headway.train.log.events import JsonlSink, Sink
from headway.train.loop.context import ProbeFunction


@dataclass(frozen=True)
class RunOptions:
    """How a run is observed and carried out, besides its config."""

    reproduce: dict[str, Any] | None = None
    """The record of a run whose choices are used instead of new measurements."""
    start_time: float | None = None
    """``time.perf_counter()`` at which the budget began; None: now."""
    loggers: Sequence[str] = ()
    """Names in ``train.log.dashboards`` of dashboards that receive the events."""
    probe: ProbeFunction | None = None
    """Measures the backbone (percent)."""
    probe_every: int = 0
    """Steps between probes; 0: only at the end."""
    save_every: int = 0
    """Steps between checkpoints; 0: as many as take two minutes."""
    fsdp: bool = False
    """Whether weights, gradients and moments are sharded over the processes."""
    auto_processes: bool = False
    """Whether several processes may be started on this machine where the config does not say how many."""

    def __post_init__(self) -> None:
        check_loggers(self.loggers)
        if min(self.probe_every, self.save_every) < 0 or (self.probe_every and not self.probe):
            raise HeadwayError(
                "options-conflict",
                "--probe-every and --save-every are steps, 0 or more, and the former needs --probe LABELED",
            )


DEFAULT_OPTIONS = RunOptions()


@dataclass(frozen=True)
class PretrainContext:
    """What all phases of a pretraining share."""

    config: PretrainConfig
    source: Source
    out: Path
    options: RunOptions
    fabric: Any
    """Lightning Fabric, launched once and used for measurements and training."""
    start_time: float
    sinks: Sequence[Sink]
    decode_progress: Callable[[int, int], None] | None
    notify: Callable[[str], None]
    record: dict[str, Any] | None
    """The record of the run that is resumed."""
    resumed_step: int | None
    """The step of the checkpoint from which the run is resumed."""
    parent: ParentRun | None
    """The run that this one continues, or the run itself where it is resumed from a checkpoint of its own."""
    notes: list[str] = field(default_factory=list)
    """Messages that the user receives before the training starts."""

    @property
    def reference(self) -> dict[str, Any] | None:
        """The record of the run that is resumed or reproduced."""
        return self.record or self.options.reproduce


class PreparedData(NamedTuple):
    """The decoded images, the view that is taken of them, and the hashes of images that the initial weights saw."""

    store: ImageStore
    view_size: int
    patch: int
    seen: Tensor | None


class RunFolder(NamedTuple):
    """The open run folder: its record and the sinks that write into it."""

    record: dict[str, Any]
    log: JsonlSink
    dashboards: list[FaultTolerantSink]


def read_parent(config: PretrainConfig, out: Path, resumed: bool, has_checkpoint: bool) -> ParentRun | None:
    """The run whose weights this one starts from, if any: the run itself once it has a checkpoint of its own."""
    if has_checkpoint and (config.continue_from or config.init):
        return read_parent_run(out)
    if not config.continue_from:
        return None
    try:
        return read_parent_run(Path(config.continue_from))
    except HeadwayError as error:
        if not resumed:
            raise
        raise HeadwayError(
            "checkpoint-damaged", f"{error}; {out} has no valid checkpoint of its own, and starts from that run"
        ) from error
