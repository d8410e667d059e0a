"""From the log events of a training to progress and notes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headway.utils.notes import note
from headway.utils.progress import ProgressCallback, ProgressEvent

if TYPE_CHECKING:
    from headway.train.log.events import Event, Sink


def training_sinks(progress: ProgressCallback | None, stage: str) -> list[Sink]:
    """Sinks that report the steps of a training as one stage, and its probes and messages as notes."""
    from headway.train.log.events import Note, ProbeResult, StepMetrics

    def sink(event: Event) -> None:
        if isinstance(event, StepMetrics) and progress:
            text = f"loss {event.loss:.3f}, {event.images_per_second:,.0f} images/s"
            progress(ProgressEvent(stage, event.step, event.total, text))
        elif isinstance(event, ProbeResult):
            note(f"step {event.step}: {event.name} {event.value:.1f} %")
        elif isinstance(event, Note):
            note(event.text)

    return [sink]


@contextmanager
def opened_training_sinks(progress: ProgressCallback | None, stage: str) -> Iterator[Sequence[Sink]]:
    """The same as a context, for several trainings one after another."""
    yield training_sinks(progress, stage)
