"""What a training uses from its first step to its last, and what observes it."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from headway.config import Optim
from headway.data.dataset.subset import Images
from headway.protocol import Backbone
from headway.train.config import Plan
from headway.train.engine.step import Engine
from headway.train.log.events import Event, Sink
from headway.train.log.meters import Stopwatch

ProbeFunction = Callable[[Backbone], float]
FeatureMonitor = Callable[[Backbone], dict[str, float]]


class Observers(NamedTuple):
    """What observes a training. The probe and the feature monitor leave the backbone as it was.

    Attributes:
        sinks: Receive the events, on the first process only.
        probe: From a backbone to percent.
        feature_monitor: From a backbone to statistics of its features by name, which are checked for collapse.
    """

    sinks: Sequence[Sink] = ()
    probe: ProbeFunction | None = None
    feature_monitor: FeatureMonitor | None = None


NO_OBSERVERS = Observers()


class TrainContext(NamedTuple):
    """What a training uses. ``plan`` is the one in force; what changes with each step is its ``TrainProgress``."""

    engine: Engine
    images: Images
    plan: Plan
    optim: Optim
    stop_after: int | None
    run: Path | None
    emit: Callable[[Event], None]
    observers: Observers
    stopwatch: Stopwatch
    planned_s: float = math.inf
    """Seconds that the training was planned to take, from where it starts or is resumed."""

    @property
    def stop_step(self) -> int:
        """The step after which the training ends."""
        return min(self.plan.steps, self.stop_after or self.plan.steps)

    def epoch(self, step: int) -> float:
        """Passes over the images after so many steps."""
        return (self.plan.start_position + step * self.plan.batch_size) / len(self.images)
