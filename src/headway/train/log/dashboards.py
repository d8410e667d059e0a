"""Sinks for TensorBoard, Weights & Biases and MLflow. ``log.jsonl`` is written whatever happens to them."""

import importlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headway.errors import HeadwayError, unknown_name_error
from headway.train.log.events import Event, FeatureStats, Note, ProbeResult, Sink, StepMetrics


def scalars_of(event: StepMetrics | ProbeResult | FeatureStats) -> dict[str, float]:
    """The numbers in an event, by name."""
    if isinstance(event, StepMetrics):
        own = {"loss": event.loss, "lr": event.lr, "epoch": event.epoch, "images_per_second": event.images_per_second}
        return {**own, **event.metrics}
    if isinstance(event, ProbeResult):
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

    def __call__(self, step: int, scalars: dict[str, float]) -> None:
        """Log the numbers."""
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self, succeeded: bool) -> None:
        """Close the dashboard."""
        self.writer.close()


class WandB:
    """Weights & Biases, in RUN/wandb; offline unless WANDB_API_KEY or WANDB_MODE is set (``wandb sync`` later)."""

    module = "wandb"

    def __init__(self, run: Path, record: dict[str, Any]):
        known = "WANDB_API_KEY" in os.environ or "WANDB_MODE" in os.environ
        self.run = importlib.import_module(self.module).init(
            project="headway", name=run.name, dir=str(run), config=record, mode=None if known else "offline"
        )

    def __call__(self, step: int, scalars: dict[str, float]) -> None:
        """Log the numbers."""
        self.run.log({**scalars, "step": step})

    def close(self, succeeded: bool) -> None:
        """Close the dashboard."""
        self.run.finish(exit_code=0 if succeeded else 1)


class MLflow:
    """MLflow, in RUN/mlflow.db unless MLFLOW_TRACKING_URI names a server.

    It uses MlflowClient: ``mlflow.log_metrics`` and the like know one run and one server per process.
    """

    module = "mlflow"

    def __init__(self, run: Path, record: dict[str, Any]):
        client = importlib.import_module(self.module)
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it logs every table that it creates
        named = "MLFLOW_TRACKING_URI" in os.environ
        uri, files = (None, None) if named else (f"sqlite:///{(run / 'mlflow.db').resolve()}", run / "mlflow")
        self.client, self.metric_class = client.MlflowClient(uri), client.entities.Metric
        known = self.client.get_experiment_by_name("headway")
        experiment = known.experiment_id if known else self.client.create_experiment(
            "headway", artifact_location=files and files.resolve().as_uri()
        )  # fmt: skip
        self.run_id = self.client.create_run(experiment, run_name=run.name).info.run_id
        self.client.log_dict(self.run_id, record, "run.json")

    def __call__(self, step: int, scalars: dict[str, float]) -> None:
        """Log the numbers."""
        now = int(1000 * time.time())
        points = [self.metric_class(name.replace("/", "."), float(value), now, step) for name, value in scalars.items()]
        self.client.log_batch(self.run_id, metrics=points)

    def close(self, succeeded: bool) -> None:
        """Close the dashboard."""
        self.client.set_terminated(self.run_id, "FINISHED" if succeeded else "FAILED")


LOGGERS: dict[str, type[TensorBoard | WandB | MLflow]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}


class FaultTolerantSink:
    """A sink around a dashboard that stops after the dashboard's first error: a dashboard out of reach ends no run."""

    def __init__(self, name: str, dashboard: Any, log: Sink):
        self.name, self.dashboard, self.log = name, dashboard, log

    def rewind(self, step: int) -> None:
        """Rewind the dashboard, where it can."""
        if hasattr(self.dashboard, "rewind"):
            self._call(self.dashboard.rewind, step)

    def __call__(self, event: Event) -> None:
        """Pass on the numbers of an event."""
        if self.dashboard is not None and not isinstance(event, Note) and (numbers := scalars_of(event)):
            self._call(self.dashboard, event.step, numbers)

    def close(self, succeeded: bool) -> None:
        """Close the dashboard; ``succeeded`` says whether the run reached its end."""
        if self.dashboard is not None:
            self._call(self.dashboard.close, succeeded)

    def _call(self, function: Any, *args: Any) -> None:
        try:
            function(*args)
        except Exception as error:  # a client may raise anything
            self.dashboard = None
            self.log(Note(f"{self.name} receives no more events, it failed: {type(error).__name__}: {error}"))


def check_loggers(names: Sequence[str]) -> None:
    """Refuse a name that is not in LOGGERS, and one whose client is not installed. Raises HeadwayError."""
    for name in names:
        if name not in LOGGERS:
            raise unknown_name_error("logger", name, LOGGERS)
        try:
            importlib.import_module(LOGGERS[name].module)
        except ImportError as error:
            raise HeadwayError("missing-package", f"--loggers {name} needs its client: pip install {name}") from error


@contextmanager
def closing_loggers(sinks: Sequence[FaultTolerantSink]) -> Iterator[None]:
    """Close the loggers after the block, however it ends."""
    succeeded = False
    try:
        yield
        succeeded = True
    finally:
        for sink in sinks:
            sink.close(succeeded)


def open_loggers(names: Sequence[str], run: Path, record: dict[str, Any], log: Sink) -> list[FaultTolerantSink]:
    """Open the dashboards of these names.

    Args:
        names: Names that passed ``check_loggers``.
        run: The run folder.
        record: The run's record, as in run.json.
        log: Receives a note when a dashboard fails later.

    Raises:
        HeadwayError: A dashboard cannot start.
    """
    sinks: list[FaultTolerantSink] = []
    for name in names:
        try:
            sinks.append(FaultTolerantSink(name, LOGGERS[name](run, record), log))
        except Exception as error:
            raise HeadwayError(
                "logger-failed", f"{name} cannot start: {type(error).__name__}: {error}; leave it out of --loggers"
            ) from error
    return sinks
