"""Sinks for other people's dashboards, each over its own client; ``log.jsonl`` is written whatever happens to them."""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headway.errors import HeadwayError, unknown
from headway.train.log import Event, Look, Note, Probe, Sink, Step


def numbers_of(event: Event) -> dict[str, float]:
    """What there is to draw in an event, by name; nothing in a note."""
    if isinstance(event, Step):
        own = {"loss": event.loss, "rate": event.rate, "epoch": event.epoch, "pictures_per_second": event.pictures}
        return {**own, **event.metrics}
    if isinstance(event, Probe):
        return {f"probe/{event.name}": event.value}
    return {f"features/{name}": value for name, value in event.features.items()} if isinstance(event, Look) else {}


class TensorBoard:
    """Event files in RUN/tensorboard, for ``tensorboard --logdir``."""

    def __init__(self, run: Path, record: dict[str, Any]):
        self.client, self.folder = _client("torch.utils.tensorboard", "tensorboard"), str(run / "tensorboard")
        self.writer = self.client.SummaryWriter(self.folder)

    def rewind(self, step: int) -> None:
        """Hide what was logged after ``step``."""
        self.writer.close()
        self.writer = self.client.SummaryWriter(self.folder, purge_step=step + 1)

    def __call__(self, event: Event) -> None:
        """Draw the event."""
        for name, value in numbers_of(event).items():
            self.writer.add_scalar(name, value, event.step)  # type: ignore[union-attr]  # only notes have no step
        self.writer.flush()


class WandB:
    """Weights & Biases, in RUN/wandb; offline unless WANDB_API_KEY or WANDB_MODE is set (``wandb sync`` later)."""

    def __init__(self, run: Path, record: dict[str, Any]):
        known = "WANDB_API_KEY" in os.environ or "WANDB_MODE" in os.environ
        self.run = _client("wandb", "wandb").init(
            project="headway", name=run.name, dir=str(run), config=record, mode=None if known else "offline"
        )

    def __call__(self, event: Event) -> None:
        """Draw the event."""
        if numbers := numbers_of(event):
            self.run.log({**numbers, "step": event.step})  # type: ignore[union-attr]


class MLflow:
    """MLflow, in RUN/mlflow.db unless MLFLOW_TRACKING_URI names a server."""

    def __init__(self, run: Path, record: dict[str, Any]):
        self.client = _client("mlflow", "mlflow")
        if "MLFLOW_TRACKING_URI" not in os.environ:
            self.client.set_tracking_uri(f"sqlite:///{(run / 'mlflow.db').resolve()}")
        self.client.set_experiment("headway")
        self.client.start_run(run_name=run.name)
        self.client.log_dict(record, "run.json")

    def __call__(self, event: Event) -> None:
        """Draw the event."""
        if numbers := numbers_of(event):
            plain = {name.replace("/", "."): value for name, value in numbers.items()}
            self.client.log_metrics(plain, step=event.step)  # type: ignore[union-attr]


LOGGERS = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}


class Careful:
    """A sink that is left alone after its first fault: a dashboard out of reach ends no run."""

    def __init__(self, name: str, sink: Any, log: Sink):
        self.name, self.sink, self.log = name, sink, log

    def rewind(self, step: int) -> None:
        """Hand it on, where the sink can."""
        if hasattr(self.sink, "rewind"):
            self._try(self.sink.rewind, step)

    def __call__(self, event: Event) -> None:
        """Hand it on."""
        if self.sink is not None:
            self._try(self.sink, event)

    def _try(self, what: Any, given: Any) -> None:
        try:
            what(given)
        except Exception as fault:  # whatever a client may raise
            self.sink = None
            self.log(Note(f"{self.name} gets no more events, it failed: {type(fault).__name__}: {fault}"))


def open_loggers(names: Sequence[str], run: Path, record: dict[str, Any], log: Sink) -> list[Sink]:
    """The sinks called so.

    Args:
        names: Of LOGGERS.
        run: The run folder.
        record: Of the run, as run.json holds it.
        log: Told of a sink that fails later.

    Raises:
        HeadwayError: An unknown name, a client that is not installed, or one that cannot start.
    """
    sinks: list[Sink] = []
    for name in names:
        if name not in LOGGERS:
            raise unknown("logger", name, LOGGERS)
        try:
            sinks.append(Careful(name, LOGGERS[name](run, record), log))
        except HeadwayError:
            raise
        except Exception as fault:
            raise HeadwayError(
                f"{name} cannot start: {type(fault).__name__}: {fault}; leave it out of --log"
            ) from fault
    return sinks


def _client(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise HeadwayError(f"--log {name} needs its client: pip install 'headway[{name}]'") from error
