"""Sinks for other people's dashboards, each over its own client; ``log.jsonl`` is written whatever happens to them."""

import importlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headway.errors import HeadwayError, unknown
from headway.train.log import Event, Look, Note, Probe, Sink, Step


def numbers_of(event: Step | Probe | Look) -> dict[str, float]:
    """What there is to draw in an event, by name."""
    if isinstance(event, Step):
        own = {"loss": event.loss, "rate": event.rate, "epoch": event.epoch, "pictures_per_second": event.pictures}
        return {**own, **event.metrics}
    if isinstance(event, Probe):
        return {f"probe/{event.name}": event.value}
    return {f"features/{name}": value for name, value in event.features.items()}


class TensorBoard:
    """Event files in RUN/tensorboard, for ``tensorboard --logdir``."""

    module = "torch.utils.tensorboard"

    def __init__(self, run: Path, record: dict[str, Any]):
        self.client, self.folder = importlib.import_module(self.module), str(run / "tensorboard")
        self.writer = self.client.SummaryWriter(self.folder)

    def rewind(self, step: int) -> None:
        """Hide what was logged after ``step``."""
        self.writer.close()
        self.writer = self.client.SummaryWriter(self.folder, purge_step=step + 1)

    def __call__(self, step: int, numbers: dict[str, float]) -> None:
        """Draw them."""
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self, whole: bool) -> None:
        """No more will come."""
        self.writer.close()


class WandB:
    """Weights & Biases, in RUN/wandb; offline unless WANDB_API_KEY or WANDB_MODE is set (``wandb sync`` later)."""

    module = "wandb"

    def __init__(self, run: Path, record: dict[str, Any]):
        known = "WANDB_API_KEY" in os.environ or "WANDB_MODE" in os.environ
        self.run = importlib.import_module(self.module).init(
            project="headway", name=run.name, dir=str(run), config=record, mode=None if known else "offline"
        )

    def __call__(self, step: int, numbers: dict[str, float]) -> None:
        """Draw them."""
        self.run.log({**numbers, "step": step})

    def close(self, whole: bool) -> None:
        """No more will come."""
        self.run.finish(exit_code=0 if whole else 1)


class MLflow:
    """MLflow, in RUN/mlflow.db unless MLFLOW_TRACKING_URI names a server.

    Its client is asked, not ``mlflow.log_metrics`` and the like, which keep one run and one place a process.
    """

    module = "mlflow"

    def __init__(self, run: Path, record: dict[str, Any]):
        client = importlib.import_module(self.module)
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table that it makes
        named = "MLFLOW_TRACKING_URI" in os.environ
        place, files = (None, None) if named else (f"sqlite:///{(run / 'mlflow.db').resolve()}", run / "mlflow")
        self.client, self.metric = client.MlflowClient(place), client.entities.Metric
        known = self.client.get_experiment_by_name("headway")
        experiment = known.experiment_id if known else self.client.create_experiment(
            "headway", artifact_location=files and files.resolve().as_uri()
        )  # fmt: skip
        self.run = self.client.create_run(experiment, run_name=run.name).info.run_id
        self.client.log_dict(self.run, record, "run.json")

    def __call__(self, step: int, numbers: dict[str, float]) -> None:
        """Draw them."""
        now = int(1000 * time.time())
        points = [self.metric(name.replace("/", "."), float(value), now, step) for name, value in numbers.items()]
        self.client.log_batch(self.run, metrics=points)

    def close(self, whole: bool) -> None:
        """No more will come."""
        self.client.set_terminated(self.run, "FINISHED" if whole else "FAILED")


LOGGERS: dict[str, type[TensorBoard | WandB | MLflow]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}


class Careful:
    """A sink over a dashboard that is left alone after its first fault: one out of reach ends no run."""

    def __init__(self, name: str, board: Any, log: Sink):
        self.name, self.board, self.log = name, board, log

    def rewind(self, step: int) -> None:
        """Hand it on, where the sink can."""
        if hasattr(self.board, "rewind"):
            self._try(self.board.rewind, step)

    def __call__(self, event: Event) -> None:
        """Hand on what there is to draw."""
        if self.board is not None and not isinstance(event, Note) and (numbers := numbers_of(event)):
            self._try(self.board, event.step, numbers)

    def close(self, whole: bool) -> None:
        """End it; ``whole`` where the run came to its end."""
        if self.board is not None:
            self._try(self.board.close, whole)

    def _try(self, what: Any, *given: Any) -> None:
        try:
            what(*given)
        except Exception as fault:  # whatever a client may raise
            self.board = None
            self.log(Note(f"{self.name} gets no more events, it failed: {type(fault).__name__}: {fault}"))


def check_loggers(names: Sequence[str]) -> None:
    """Refuse a name that is not of LOGGERS, and one whose client is not installed. Raises HeadwayError."""
    for name in names:
        if name not in LOGGERS:
            raise unknown("logger", name, LOGGERS)
        try:
            importlib.import_module(LOGGERS[name].module)
        except ImportError as error:
            raise HeadwayError(f"--log {name} needs its client: pip install {name}") from error


@contextmanager
def closing(sinks: Sequence[Careful]) -> Iterator[None]:
    """Close them after the block, however it ends."""
    whole = False
    try:
        yield
        whole = True
    finally:
        for sink in sinks:
            sink.close(whole)


def open_loggers(names: Sequence[str], run: Path, record: dict[str, Any], log: Sink) -> list[Careful]:
    """The sinks called so.

    Args:
        names: Let pass by ``check_loggers``.
        run: The run folder.
        record: Of the run, as run.json holds it.
        log: Told of a sink that fails later.

    Raises:
        HeadwayError: One that cannot start.
    """
    sinks: list[Careful] = []
    for name in names:
        try:
            sinks.append(Careful(name, LOGGERS[name](run, record), log))
        except Exception as fault:
            raise HeadwayError(
                f"{name} cannot start: {type(fault).__name__}: {fault}; leave it out of --log"
            ) from fault
    return sinks
