"""What a run tells while it goes on: typed events, and the sinks that take them (any callable will do)."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from headway.distributed import rank
from headway.errors import HeadwayError
from headway.files import to_json, write_text


class Step(NamedTuple):
    """Some steps were taken; numbers are means since the last such event.

    Attributes:
        step: Steps taken so far.
        total: Steps of the whole run.
        epoch: Passes over the data so far.
        loss: The mean loss.
        rate: The learning rate in force.
        pictures: Pictures a second, over all processes.
        metrics: Further numbers by name.
    """

    step: int
    total: int
    epoch: float
    loss: float
    rate: float
    pictures: float
    metrics: dict[str, float]


class Probe(NamedTuple):
    """A probe was measured: its name and its result in per cent."""

    step: int
    name: str
    value: float


class Look(NamedTuple):
    """The backbone's features were looked at: numbers by name."""

    step: int
    features: dict[str, float]


class Note(NamedTuple):
    """Something a person should know."""

    text: str


Event = Step | Probe | Look | Note
Sink = Callable[[Event], None]


def tell_all(sinks: Sequence[Sink], event: Event) -> None:
    """Hand an event to every sink; on other processes than the first nobody listens."""
    if rank() == 0:
        for sink in sinks:
            sink(event)


def rewind(sinks: Sequence[Sink], step: int) -> None:
    """Tell the sinks that can that the run goes on from this step: they forget what came after."""
    for sink in sinks:
        if rank() == 0 and hasattr(sink, "rewind"):
            sink.rewind(step)


class Jsonl:
    """A sink that appends one JSON object a line; ``Note`` becomes {"note": text}, what is no number null.

    What a kill tore off in the last line goes, and a note says so, before anything is written behind it.
    """

    def __init__(self, path: Path):
        self.path = path
        self.mended = False

    def rewind(self, step: int) -> None:
        """Forget what was logged after ``step`` (or at 0, to which all is done again)."""
        self._keep(lambda record: not isinstance(at := record.get("step"), int) or at <= step > 0)

    def _keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Leave out the lines that are not wanted, and torn ones."""
        self.mended = True
        if not self.path.is_file():
            return
        try:
            content = self.path.read_bytes().decode("utf-8", "replace")
        except OSError as error:
            raise HeadwayError(f"cannot read {self.path}: {error.strerror}; make it readable") from error
        lines = content.splitlines()
        held = [(line, _held(line)) for line in lines]
        kept = "".join(f"{line}\n" for line, record in held if record is not None and wanted(record))
        if kept != content:
            write_text(self.path, kept)
        if torn := sum(record is None for _, record in held):
            self(Note(f"lines of this log that a kill or a full disk tore, and that are lost: {torn}"))

    def __call__(self, event: Event) -> None:
        """Append the event."""
        if not self.mended:  # or it would be appended to a torn line, and lost with it
            self._keep(lambda record: True)
        record: dict[str, Any] = {"note": event.text} if isinstance(event, Note) else event._asdict()
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(to_json(record) + "\n")
        except OSError as error:
            raise HeadwayError(f"cannot write {self.path}: {error.strerror}; make room and add --resume") from error


def _held(line: str) -> dict[str, Any] | None:
    """What a line of the log holds; None where it is torn."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


class Bar:
    """A sink that draws a progress bar with loss, pictures a second and time left; use it in a ``with`` block."""

    def __init__(self, title: str, console: Console | None = None):
        columns = (
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
            TextColumn("loss {task.fields[loss]}"), TextColumn("{task.fields[pictures]} pictures/s"),
            TimeRemainingColumn(), TextColumn("left"),
        )  # fmt: skip
        self.console = console or Console(stderr=True)
        self.progress = Progress(*columns, console=self.console, transient=False)
        self.job = self.progress.add_task(title, total=1, loss="-", pictures="-")

    def __enter__(self) -> "Bar":
        return self  # drawn from the first event on: what is refused before shows no bar

    def __exit__(self, *fault: object) -> None:
        self.progress.stop()

    def __call__(self, event: Event) -> None:
        """Draw the event."""
        self.progress.start()
        if isinstance(event, Step):
            self.progress.update(
                self.job,
                completed=event.step,
                total=event.total,
                loss=f"{event.loss:.3f}",
                pictures=f"{event.pictures:,.0f}",
            )
        elif isinstance(event, Probe):
            self.console.print(f"step {event.step}: {event.name} {event.value:.1f} %", highlight=False)
        elif isinstance(event, Note):
            self.console.print(event.text, highlight=False, markup=False)
