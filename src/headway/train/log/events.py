"""Events of a run as typed records, and the sinks that receive them (any callable is a sink)."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from headway.distributed import rank
from headway.errors import HeadwayError
from headway.utils.files import to_json, write_text


class StepMetrics(NamedTuple):
    """Means over the steps since the last such event.

    Attributes:
        step: Steps taken so far.
        total: Steps of the whole run.
        epoch: Passes over the data so far.
        loss: The mean loss.
        lr: The learning rate in force.
        images_per_second: Over all processes.
        metrics: Further means by name.
    """

    step: int
    total: int
    epoch: float
    loss: float
    lr: float
    images_per_second: float
    metrics: dict[str, float]


class ProbeResult(NamedTuple):
    """Name of a probe and its result in percent."""

    step: int
    name: str
    value: float


class FeatureStats(NamedTuple):
    """Statistics of the backbone's features, by name."""

    step: int
    features: dict[str, float]


class Note(NamedTuple):
    """A message to the user."""

    text: str


Event = StepMetrics | ProbeResult | FeatureStats | Note
Sink = Callable[[Event], None]


def emit(sinks: Sequence[Sink], event: Event) -> None:
    """Pass an event to every sink; only the first process has sinks that count."""
    if rank() == 0:
        for sink in sinks:
            sink(event)


def rewind_sinks(sinks: Sequence[Sink], step: int) -> None:
    """Let the sinks that have a ``rewind`` method discard what came after this step, from which the run goes on."""
    for sink in sinks:
        if rank() == 0 and hasattr(sink, "rewind"):
            sink.rewind(step)


class JsonlSink:
    """A sink that appends one JSON object per line. A ``Note`` becomes {"note": text}; NaN and infinity become null.

    A line that a kill cut short is removed before anything is appended, and a note says so.
    """

    def __init__(self, path: Path):
        self.path = path
        self.repaired = False

    def rewind(self, step: int) -> None:
        """Discard what was logged after ``step``, or at step 0 where the run starts again from there."""
        self._filter_lines(lambda record: not isinstance(at := record.get("step"), int) or at <= step > 0)

    def _filter_lines(self, predicate: Callable[[dict[str, Any]], bool]) -> None:
        """Keep the lines that the predicate accepts; incomplete lines are removed as well."""
        self.repaired = True
        if not self.path.is_file():
            return
        try:
            content = self.path.read_bytes().decode("utf-8", "replace")
        except OSError as error:
            raise HeadwayError("cannot-read", f"cannot read {self.path}: {error.strerror}; make it readable") from error
        lines = content.splitlines()
        parsed = [(line, _parse_line(line)) for line in lines]
        kept = "".join(f"{line}\n" for line, record in parsed if record is not None and predicate(record))
        if kept != content:
            write_text(self.path, kept)
        if incomplete := sum(record is None for _, record in parsed):
            self(Note(f"incomplete lines of this log, lost to a kill or a full disk: {incomplete}"))

    def __call__(self, event: Event) -> None:
        """Append the event."""
        if not self.repaired:  # otherwise the event would be appended to an incomplete line, and lost with it
            self._filter_lines(lambda record: True)
        record: dict[str, Any] = {"note": event.text} if isinstance(event, Note) else event._asdict()
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(to_json(record) + "\n")
        except OSError as error:
            raise HeadwayError(
                "cannot-write", f"cannot write {self.path}: {error.strerror}; make room and add --resume"
            ) from error


def _parse_line(line: str) -> dict[str, Any] | None:
    """The record in a line of the log; None where the line is incomplete."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
